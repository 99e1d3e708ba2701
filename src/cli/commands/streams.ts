import type { Command } from 'commander'
import { listAll } from '../client.ts'
import { type CommandContext, does, withCommonOptions } from '../session.ts'
import { table } from '../table.ts'

/** `received = pending + written + duplicate + filtered + rejected + dead`. */
const ends = ['received', 'pending', 'written', 'duplicate', 'filtered', 'rejected', 'dead'] as const

interface Stream {
  readonly name: string
  readonly topic: string
  readonly totals: Readonly<Record<(typeof ends)[number], number>>
}

export function addStreams(program: Command, context: CommandContext): void {
  const command = program.command('streams').description('list streams and where their records ended')
  does(withCommonOptions(command, 'reading'), context, async ({ cli, client }) => {
    const items = await listAll<Stream>(await client(), '/api/v1/streams', 10_000)
    const rows = items.map((stream) => [stream.name, stream.topic, ...ends.map((end) => stream.totals[end])])
    cli.print(table(['STREAM', 'TOPIC', ...ends.map((end) => end.toUpperCase())], rows), { items })
    if (items.length === 0) cli.note('There are no streams')
  })
}
