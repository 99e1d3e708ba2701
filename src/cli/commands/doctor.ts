import type { Command } from 'commander'
import type { Config } from '../../app/config.ts'
import { messageOf } from '../../errors.ts'
import { exitCodes } from '../cli.ts'
import { type CommandContext, does, type Session, withCommonOptions } from '../session.ts'

export function addDoctor(program: Command, context: CommandContext): void {
  const command = program.command('doctor').description('look at what Sluice needs here, and say what to do')
  does(withCommonOptions(command, 'reading'), context, async (session) => {
    const findings = await examine(session)
    const lines = findings.map(
      ({ check, state, detail, fix }) =>
        `${state.padEnd(4)}  ${check.padEnd(11)}  ${detail}${fix ? `. To do: ${fix}` : ''}`,
    )
    session.cli.print(lines.join('\n'), { ok: findings.every(({ state }) => state !== 'fail'), findings })
    return findings.some(({ state }) => state === 'fail') ? exitCodes.failed : exitCodes.done
  })
}

async function examine(session: Session) {
  const checks = await import('../doctor-checks.ts')
  const { settingNames, unknownSettings } = await import('../../app/config.ts')
  let config: Config
  try {
    config = await session.config()
  } catch (thrown) {
    const fix = 'correct the variable'
    return [checks.checkNode(), { check: 'settings', state: 'fail' as const, detail: messageOf(thrown), fix }]
  }
  return [
    checks.checkNode(),
    checks.checkSettings(unknownSettings(), settingNames),
    await checks.checkHome(config),
    ...(await checks.checkDatabase(config)),
    ...(await checks.checkDefinitions(config)),
    await checks.checkConnections(config),
    await checks.checkPort(config),
  ]
}
