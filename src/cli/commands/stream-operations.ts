/** `sluice streams pause|resume|drain|rewind|scale STREAM` and `operations STREAM`. */
import { userInfo } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { type Command, InvalidArgumentError } from 'commander'
import { SluiceError } from '../../errors.ts'
import { type Client, listAll } from '../client.ts'
import {
  type CommandContext,
  type CommonOptions,
  does,
  parseLimit,
  type Session,
  withCommonOptions,
} from '../session.ts'
import { table } from '../table.ts'

interface AuditOptions extends CommonOptions {
  readonly note?: string
}
interface DrainOptions extends AuditOptions {
  readonly wait?: boolean
}
interface RewindOptions extends AuditOptions {
  readonly to: string
  readonly partition?: number
}
interface ScaleOptions extends AuditOptions {
  readonly partitions: number
}

interface Changed {
  readonly mode: string
  readonly changed: boolean
}
interface Rewound {
  readonly shards: readonly { partition: number; from: number; to: number; records: number }[]
}
interface Operation {
  readonly act: string
  readonly by: string
  readonly note: string | null
  readonly detail: Readonly<Record<string, unknown>>
  readonly at: string
}

export function addStreamOperations(streams: Command, context: CommandContext): void {
  const audited = (command: Command) =>
    withCommonOptions(command, 'reading').option('--note <text>', 'why, for the audit')
  does(
    audited(streams.command('pause <stream>').description('take nothing in until it is resumed')),
    context,
    async (session, options: AuditOptions, stream: string) => {
      const answer = await ask<Changed>(await session.client(), stream, 'pause', auditOf(options))
      session.cli.print(`${stream} ${answer.changed ? 'is paused now' : 'was paused already'}`, answer)
    },
  )
  does(
    audited(streams.command('resume <stream>').description('let a paused or drained stream go on')),
    context,
    async (session, options: AuditOptions, stream: string) => {
      const answer = await ask<Changed>(await session.client(), stream, 'resume', auditOf(options))
      session.cli.print(`${stream} ${answer.changed ? 'goes on now' : 'was running already'}`, answer)
    },
  )
  does(
    audited(streams.command('drain <stream>').description('read nothing more, and let what was taken in end')).option(
      '--wait',
      'until nothing is open',
    ),
    context,
    drain,
  )
  does(
    audited(streams.command('rewind <stream>').description('receive records again, from the beginning of a batch on'))
      .requiredOption('--to <place>', 'an offset, a time such as 2026-03-28T12:00:00Z, or beginning', parsePlace)
      .option('--partition <number>', 'this partition only', parsePartition),
    context,
    rewind,
  )
  does(
    audited(
      streams.command('scale <stream>').description('give its topic more partitions, and so the stream more shards'),
    ).requiredOption('--partitions <number>', 'how many there are to be, 256 at most', parsePartitions),
    context,
    async (session, { partitions, ...options }: ScaleOptions, stream: string) => {
      const body = { ...auditOf(options), partitions }
      const answer = await ask<{ topic: string; before: number; partitions: number }>(
        await session.client(),
        stream,
        'scale',
        body,
      )
      const now = answer.before === answer.partitions ? 'has' : 'has now'
      session.cli.print(`the topic ${answer.topic} ${now} ${answer.partitions} partitions`, answer)
    },
  )
  does(
    withCommonOptions(
      streams.command('operations <stream>').description('what was asked of a stream, by whom and why'),
      'reading',
    ).option('--limit <count>', 'how many to list at most', parseLimit, 20),
    context,
    async (session, { limit }: CommonOptions & { readonly limit: number }, stream: string) => {
      const items = await listAll<Operation>(await session.client(), pathOf(stream, 'operations'), limit)
      const rows = items.map(({ at, act, by, note, detail }) => [
        ...[at, act, by, note],
        Object.keys(detail).length === 0 ? null : JSON.stringify(detail).slice(0, 120),
      ])
      session.cli.print(table(['AT', 'ACT', 'BY', 'NOTE', 'DETAIL'], rows), { items })
      if (items.length === 0) session.cli.note(`Nothing was asked of ${stream}`)
    },
  )
}

const pathOf = (stream: string, act: string): string => `/api/v1/streams/${encodeURIComponent(stream)}/${act}`
const ask = <Answer>(api: Client, stream: string, act: string, body: object): Promise<Answer> =>
  api.request<Answer>('POST', pathOf(stream, act), body)
const auditOf = ({ note }: AuditOptions): object => ({
  by: userInfo().username,
  ...(note === undefined ? {} : { note }),
})

interface Figures {
  readonly mode: string
  readonly drained: boolean
  readonly totals: { readonly waiting: number }
  readonly shards: readonly { readonly inFlight: number; readonly parked: number }[]
}

/** How often `--wait` looks. */
const lookMs = 500

async function drain(session: Session, options: DrainOptions, stream: string): Promise<void> {
  const api = await session.client()
  const answer = await ask<Changed>(api, stream, 'drain', auditOf(options))
  const open = options.wait ? await untilNothingIsOpen(session, api, stream) : undefined
  const state = answer.changed ? 'reads nothing more' : 'was draining already'
  session.cli.print(open === 0 ? `${stream} ${state}, and nothing of it is open` : `${stream} ${state}`, {
    ...answer,
    ...(open === undefined ? {} : { open }),
  })
}

async function untilNothingIsOpen(session: Session, api: Client, stream: string): Promise<number> {
  const bar = session.cli.progress(stream)
  let most = 0
  try {
    for (;;) {
      const { mode, drained, totals, shards } = await api.request<Figures>(
        'GET',
        `/api/v1/streams/${encodeURIComponent(stream)}`,
      )
      if (drained) return 0
      if (mode !== 'draining') {
        throw new SluiceError(
          'CONFLICT',
          `${stream} does not drain any more: it is ${mode}, as somebody asked meanwhile`,
        )
      }
      const open = totals.waiting + shards.reduce((sum, shard) => sum + shard.inFlight + shard.parked, 0)
      most = Math.max(most, open)
      bar.update(most - open, most, `${open} records are open`)
      await delay(lookMs, undefined, { signal: session.signal })
    }
  } finally {
    bar.stop()
  }
}

async function rewind(session: Session, { to, partition, ...options }: RewindOptions, stream: string): Promise<void> {
  const target = to === 'beginning' ? { beginning: true } : /^\d+$/.test(to) ? { offset: Number(to) } : { time: to }
  const body = { ...auditOf(options), ...target, ...(partition === undefined ? {} : { partition }) }
  const answer = await ask<Rewound>(await session.client(), stream, 'rewind', body)
  const rows = answer.shards.map((shard) => [shard.partition, shard.from, shard.to, shard.records])
  session.cli.print(table(['PARTITION', 'FROM', 'TO', 'RECORDS AGAIN'], rows), answer)
}

function parsePlace(text: string): string {
  if (text === 'beginning' || /^\d{1,15}$/.test(text)) return text
  if (/^\d{4}-\d\d-\d\dT/.test(text) && !Number.isNaN(Date.parse(text))) return new Date(text).toISOString()
  throw new InvalidArgumentError('an offset, a time such as 2026-03-28T12:00:00Z, or beginning is needed.')
}

function whole(text: string, from: number, to: number): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= from && value <= to) return value
  throw new InvalidArgumentError(`a whole number from ${from} to ${to} is needed.`)
}
const parsePartition = (text: string): number => whole(text, 0, 255)
const parsePartitions = (text: string): number => whole(text, 1, 256)
