import type { Command } from 'commander'
import { isUuid } from '../../core/ids.ts'
import { SluiceError } from '../../errors.ts'
import { exitCodes } from '../cli.ts'
import { openPlatformDatabase } from '../platform-database.ts'
import { type CommandContext, does, withCommonOptions } from '../session.ts'
import { table } from '../table.ts'

export function addReproduce(program: Command, context: CommandContext): void {
  const command = program
    .command('reproduce <run>')
    .description('run the tasks of a past run again, writing nothing, and compare what they give byte for byte')
  does(
    withCommonOptions(command, 'reading'),
    context,
    async ({ cli, config, signal }, _options: object, run: string) => {
      const id = run.toLowerCase()
      if (!isUuid(id)) throw new SluiceError('NOT_FOUND', `There is no run ${JSON.stringify(run.slice(0, 80))}`)
      const settings = await config()
      const { reproduceRun } = await import('../../app/reproduce/reproduce.ts')
      const { database, close } = await openPlatformDatabase(settings, { max: 4 })
      const bar = cli.progress('reproduce')
      try {
        const reproduction = await reproduceRun(id, {
          database,
          config: settings,
          note: (line) => cli.note(line),
          onProgress: (done, total) => bar.update(done, total, 'tasks'),
          signal,
        })
        bar.stop()
        const { tasks, same, workflow } = reproduction
        const rows = tasks.flatMap(({ task, attempt, same: isSame, differences }) => [
          [task, attempt, isSame ? 'same' : 'different', differences[0] ?? ''],
          ...differences.slice(1).map((difference) => ['', '', '', difference]),
        ])
        const differing = tasks.filter((task) => !task.same).length
        const verdict = same
          ? `run ${id} of ${workflow}: ${tasks.length} ${tasks.length === 1 ? 'task' : 'tasks'}, all the same`
          : `run ${id} of ${workflow}: ${differing} of ${tasks.length} tasks differ`
        cli.print(`${table(['TASK', 'ATTEMPT', 'IS', 'BECAUSE'], rows)}\n${verdict}`.trimStart(), reproduction)
        return same ? exitCodes.done : exitCodes.failed
      } finally {
        bar.stop()
        await close()
      }
    },
  )
}
