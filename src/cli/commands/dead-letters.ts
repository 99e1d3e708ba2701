import type { Command } from 'commander'
import { listAll } from '../client.ts'
import { type CommandContext, type CommonOptions, does, parseLimit, withCommonOptions } from '../session.ts'
import { table } from '../table.ts'

interface DeadLetter {
  readonly partition: number
  readonly offset: number
  readonly key: string | null
  readonly reason: string | null
  readonly detail: string | null
  readonly attempts: number
  readonly since: string
}

interface DeadLettersOptions extends CommonOptions {
  readonly replay?: boolean
  readonly limit: number
}

export function addDeadLetters(program: Command, context: CommandContext): void {
  const command = program
    .command('dead-letters <stream>')
    .description('list the records of a stream that gave up')
    .option('--replay', 'put them all back into the stream')
    .option('--limit <count>', 'how many to list at most', parseLimit, 100)
  does(
    withCommonOptions(command, 'reading'),
    context,
    async ({ cli, client }, options: DeadLettersOptions, stream: string) => {
      const api = await client()
      const path = `/api/v1/streams/${encodeURIComponent(stream)}/dead-letters`
      if (options.replay) {
        const answer = await api.request<{ replayed: number; remaining: number }>('POST', `${path}/replay`, {
          all: true,
        })
        cli.print(`${answer.replayed} replayed, ${answer.remaining} still dead`, answer)
        return
      }
      const items = await listAll<DeadLetter>(api, path, options.limit)
      const rows = items.map((one) => [
        `${one.partition}:${one.offset}`,
        one.key,
        one.attempts,
        one.since,
        one.reason ?? one.detail,
      ])
      cli.print(table(['RECORD', 'KEY', 'ATTEMPTS', 'SINCE', 'REASON'], rows), { items })
      if (items.length === 0) cli.note(`The stream ${stream} has no dead letters`)
    },
  )
}
