import type { Command } from 'commander'
import { SluiceError } from '../../errors.ts'
import { exitCodes } from '../cli.ts'
import type { Finding } from '../doctor/finding.ts'
import { type CommandContext, does, type Session, withCommonOptions } from '../session.ts'

export function addDoctor(program: Command, context: CommandContext): void {
  const command = program.command('doctor').description('look at what Sluice needs here, and say what to do')
  does(withCommonOptions(command, 'reading'), context, async (session) => {
    const findings = await lookAtAll(session)
    const healthy = findings.every(({ state }) => state !== 'fail')
    session.cli.print(findings.map(lineOf).join('\n'), { ok: healthy, findings })
    return healthy ? exitCodes.done : exitCodes.failed
  })
}

function lineOf({ check, state, detail, why, fix }: Finding): string {
  const because = why === undefined ? '' : `\n${' '.repeat(19)}because ${why}`
  return `${state.padEnd(4)}  ${check.padEnd(11)}  ${detail}${because}${fix ? `\n${' '.repeat(19)}to do: ${fix}` : ''}`
}

async function lookAtAll(session: Session): Promise<Finding[]> {
  const { checkNode, checkSettings, examine } = await import('../doctor/checks.ts')
  const { settingNames, unknownSettings } = await import('../../app/config.ts')
  const { random } = await import('../../app/random.ts')
  const first = [checkNode(process.versions.node, process.execPath), ...checkSettings(unknownSettings(), settingNames)]
  try {
    const config = await session.config()
    return [...first, ...(await examine({ config, now: Date.now, random }))]
  } catch (thrown) {
    if (!(thrown instanceof SluiceError) || thrown.code !== 'CONFIGURATION') throw thrown
    const faults = thrown.faults.length > 0 ? thrown.faults : [{ where: '', message: thrown.message }]
    const told = faults.map(({ where, message }): Finding => {
      const detail = `${where} ${message}`.trim()
      return { check: 'settings', state: 'fail', detail, why: 'nothing starts with it', fix: 'correct the variable' }
    })
    return [...first, ...told]
  }
}
