import type { Command } from 'commander'
import { type Client, listAll } from '../client.ts'
import { type CommandContext, does, withCommonOptions } from '../session.ts'
import { table } from '../table.ts'
import { addStreamOperations } from './stream-operations.ts'

/** `received = pending + written + duplicate + filtered + rejected + dead`. */
const ends = ['received', 'pending', 'written', 'duplicate', 'filtered', 'rejected', 'dead'] as const

interface Stream {
  readonly name: string
  readonly topic: string
  readonly totals: Readonly<Record<(typeof ends)[number], number>>
  readonly shards: readonly { readonly holder: string | null }[]
}

interface Host {
  readonly host: string
  readonly node: string
  readonly circuit: 'closed' | 'open' | 'half-open'
  readonly queued: number
  readonly retryAt: string | null
  readonly lastError: string | null
}

/** A list is no longer: what is left of it is said. */
const mostHosts = 20
/** Of all processes; each tells of 200 at most. */
const mostAsked = 10_000

export function addStreams(program: Command, context: CommandContext): void {
  const command = program
    .command('streams [stream]')
    .description('list streams and where their records ended; of one stream also the hosts in trouble')
  does(withCommonOptions(command, 'reading'), context, async ({ cli, client }, _, name?: string) => {
    const api = await client()
    if (name !== undefined) return cli.print(...(await describeStream(api, name)))
    const items = await listAll<Stream>(api, '/api/v1/streams', 10_000)
    cli.print(streamTable(items), { items })
    if (items.length === 0) cli.note('There are no streams')
  })
  addStreamOperations(command, context)
}

const streamTable = (streams: readonly Stream[]): string =>
  table(
    ['STREAM', 'TOPIC', ...ends.map((end) => end.toUpperCase())],
    streams.map((stream) => [stream.name, stream.topic, ...ends.map((end) => stream.totals[end])]),
  )

async function describeStream(api: Client, name: string): Promise<[text: string, json: object]> {
  const [stream, hosts] = await Promise.all([
    api.request<Stream>('GET', `/api/v1/streams/${encodeURIComponent(name)}`),
    listAll<Host>(api, '/api/v1/hosts', mostAsked),
  ])
  // A process does not say for which stream it asks a host: those are named that hold a shard of this one.
  const holders = new Set(stream.shards.map(({ holder }) => holder))
  const troubled = hosts.filter((host) => holders.has(host.node) && inTrouble(host)).sort(byTrouble)
  const rows = troubled
    .slice(0, mostHosts)
    .map(({ host, circuit, queued, retryAt, lastError }) => [
      ...[host, circuit, queued, retryAt],
      lastError?.replace(/\s+/g, ' ').slice(0, 120),
    ])
  const parts = [streamTable([stream]), table(['HOST', 'CIRCUIT', 'QUEUED', 'NOT BEFORE', 'LAST ERROR'], rows)]
  if (troubled.length > mostHosts) parts.push(`and ${troubled.length - mostHosts} hosts more; --json has them all`)
  return [parts.filter((part) => part !== '').join('\n\n'), { ...stream, hosts: troubled }]
}

const inTrouble = ({ circuit, retryAt, lastError }: Host): boolean =>
  circuit !== 'closed' || retryAt !== null || lastError !== null

const rank = { open: 0, 'half-open': 1, closed: 2 } as const
const byTrouble = (a: Host, b: Host): number => rank[a.circuit] - rank[b.circuit] || b.queued - a.queued
