/** A database with streams in it, for tests: publish, open shards, stop them abruptly, recount with other SQL. */
import { randomUUID } from 'node:crypto'
import { streamAdapters } from '../src/app/stream-adapters.ts'
import { SluiceError } from '../src/errors.ts'
import { type Database, statement } from '../src/ports/database.ts'
import type { Sink } from '../src/ports/sink.ts'
import type { Capabilities } from '../src/sdk/context.ts'
import type { Stream } from '../src/sdk/stream.ts'
import type { DocumentObjects } from '../src/store/document-bytes.ts'
import { acquire, ensureShards, type HeldShard } from '../src/store/shards.ts'
import { append, type NewRecord } from '../src/store/topics.ts'
import type { ShardLimits } from '../src/streams/limits.ts'
import { Shard } from '../src/streams/shard.ts'
import type { StreamAdapters } from '../src/streams/streams.ts'
import { systemClock } from '../src/time.ts'
import { type TestDatabase, testDatabase } from './database.ts'
import { type Breach, breaches, type CheckOptions, Memory } from './invariants/check.ts'

/** Objects for streams that put none. */
export const noObjects: DocumentObjects = {
  put: () => Promise.reject(new SluiceError('STORAGE_FULL', 'There is no object store here')),
  read: (sha256) => Promise.reject(new SluiceError('OBJECT_NOT_FOUND', sha256)),
  refer: (_, references) =>
    references.length === 0 ? Promise.resolve() : Promise.reject(new SluiceError('OBJECT_NOT_FOUND', 'no objects')),
  release: () => Promise.resolve(),
}

/** Topics and documents of the database, as a deployment without anything else has them. */
export const builtIn = (db: Database) => streamAdapters({ db, objects: noObjects })

const nothing = () => {}

/** What steps get that need only the signal and the log. */
export function plainCapabilities(signal: AbortSignal): Capabilities {
  const missing = (): never => {
    throw new SluiceError('CONFIGURATION', 'It is not there in this test')
  }
  return {
    signal,
    log: { debug: nothing, info: nothing, warn: nothing, error: nothing },
    get objects() {
      return missing()
    },
    documents: missing,
    connection: missing,
    secret: missing,
  }
}

export interface OpenOptions {
  readonly limits?: Partial<ShardLimits>
  readonly database?: Database
  readonly objects?: DocumentObjects
  readonly capabilities?: (signal: AbortSignal) => Capabilities
  readonly sink?: Sink
  /** Default: those of the database. */
  readonly adapters?: StreamAdapters
}

export class StreamWorld {
  readonly #test: TestDatabase
  readonly #shards = new Set<Shard>()
  readonly #memory = new Memory()
  readonly db: Database

  private constructor(test: TestDatabase) {
    this.#test = test
    this.db = test.db
  }

  static async open(): Promise<StreamWorld> {
    return new StreamWorld(await testDatabase({ max: 8 }))
  }

  async close(): Promise<void> {
    for (const shard of this.#shards) {
      shard.drop()
      await shard.closed
    }
    await this.#test.drop()
  }

  get options() {
    return this.#test.options
  }

  async make(stream: Stream, adapters = builtIn(this.db)): Promise<void> {
    const { source, partitions, first } = await adapters.ensure(stream)
    await ensureShards(this.db, stream.name, source, partitions, first)
  }

  publish(topic: string, records: readonly NewRecord[]) {
    return this.db.transaction((session) => append(session, topic, records))
  }

  /** Publishes values under running ids; the key is the field `key`, if there is one. */
  publishValues(topic: string, values: readonly ({ readonly n: number | string } & Record<string, unknown>)[]) {
    return this.publish(
      topic,
      values.map((value) => ({
        id: `id-${value.n}`,
        key: typeof value.key === 'string' ? value.key : null,
        value: JSON.stringify(value),
      })),
    )
  }

  /** Takes shards whoever holds them: as if every lease had lapsed. */
  async take(stream: Stream, adapters = builtIn(this.db)): Promise<HeldShard[]> {
    await this.db.execute(lapseStatement, [stream.name])
    const taken: HeldShard[] = []
    // A shard whose former holder is committing at this moment is passed over.
    const { partitions } = await adapters.ensure(stream)
    while (taken.length < partitions) {
      taken.push(...(await acquire(this.db, [stream.name], randomUUID(), 60_000, 1_000)))
    }
    return taken
  }

  /** Opens every shard of a stream; those that were open before become zombies, unless they were dropped. */
  async openShards(stream: Stream, options: OpenOptions = {}): Promise<Shard[]> {
    await this.make(stream, options.adapters)
    return (await this.take(stream, options.adapters)).map((held) => this.openShard(stream, held, options))
  }

  openShard(stream: Stream, held: HeldShard, options: OpenOptions = {}): Shard {
    const database = options.database ?? this.db
    const { adapters = streamAdapters({ db: database, objects: options.objects ?? noObjects }) } = options
    const shard = new Shard({
      database,
      stream,
      shard: held,
      source: adapters.source(stream),
      sink: options.sink ?? adapters.sink(stream),
      capabilities: options.capabilities ?? plainCapabilities,
      clock: systemClock,
      random: Math.random,
      ...(options.limits === undefined ? {} : { limits: options.limits }),
    })
    this.#shards.add(shard)
    return shard
  }

  /** Runs a stream until all that is published has ended, and closes its shards. */
  async runToRest(stream: Stream, options: OpenOptions = {}): Promise<void> {
    const shards = await this.openShards(stream, options)
    const failures = Promise.race(
      shards.map(async (shard) => {
        const failure = await shard.closed
        if (failure !== undefined) throw failure
      }),
    )
    await Promise.race([Promise.all(shards.map((shard) => shard.settled())), failures.then(() => never)])
    for (const shard of shards) await shard.drain(1_000)
  }

  /** How each record ended, recounted from the rows of the ledger one by one. By partition and offset. */
  async ends(stream: string): Promise<{ offset: number; partition: number; outcome: string; reason: string | null }[]> {
    return this.db.query(endsStatement, [stream])
  }

  documents(collection: string): Promise<{ key: string; recordId: string | null; body: Record<string, unknown> }[]> {
    return this.db.query(documentsStatement, [collection])
  }

  /** What must hold at every instant (test/invariants), and since the last time it was asked. */
  breaches(options: CheckOptions = {}): Promise<readonly Breach[]> {
    return breaches(this.db, { memory: this.#memory, ...options })
  }

  waiting(stream: string): Promise<{ offset: number; state: string; attempts: number }[]> {
    return this.db.query(waitingStatement, [stream])
  }
}

const never = new Promise<never>(() => {})

const lapseStatement = statement(
  'test.lapse',
  `update sluice.shards set lease_until = '-infinity' where stream = $1 and holder is not null`,
)

/**
 * Every offset of every batch (of a source that leaves gaps: every one that left a row), with where the rows that the ledger has of it leave it: each row adds one where it
 * leads to, and takes one from where it came. Not the row with the last time: a record can die and be replayed within
 * one millisecond. A record without rows is written or filtered.
 */
const endsStatement = statement<{ offset: number; partition: number; outcome: string; reason: string | null }>(
  'test.ends',
  `
  select b.partition, o."offset", coalesce(r.outcome, case when exists (
      select from sluice.documents d where d.stream = b.stream and d.partition = b.partition and d."offset" = o."offset"
    ) then 'written' else 'filtered' end) as outcome, r.reason
  from sluice.ledger_batches b
  join sluice.shards s on s.stream = b.stream and s.partition = b.partition
  cross join lateral (
    select generate_series(b.from_offset, b.to_offset - 1) as "offset" where s.topic not like '%:%'
    union
    select d."offset" from sluice.documents d
    where s.topic like '%:%' and d.stream = b.stream and d.partition = b.partition and d."offset" >= b.from_offset and d."offset" < b.to_offset
    union
    select l."offset" from sluice.ledger_records l
    where s.topic like '%:%' and l.stream = b.stream and l.partition = b.partition and l."offset" >= b.from_offset and l."offset" < b.to_offset
  ) as o
  left join lateral (
    select s.state as outcome, (array_agg(l.reason order by l.at desc) filter (where s.step > 0))[1] as reason
    from sluice.ledger_records l, lateral (values (l.outcome, 1), (l.was, -1)) as s (state, step)
    where l.stream = b.stream and l.partition = b.partition and l."offset" = o."offset" and s.state is not null
    group by s.state having sum(s.step) > 0
  ) r on true
  where b.stream = $1
  order by b.partition, o."offset"`,
)

const documentsStatement = statement<{ key: string; recordId: string | null; body: Record<string, unknown> }>(
  'test.documents',
  'select key, record_id as "recordId", body from sluice.documents where collection = $1 order by key',
)

const waitingStatement = statement<{ offset: number; state: string; attempts: number }>(
  'test.waiting',
  'select "offset", state, attempts from sluice.stream_waiting where stream = $1 order by partition, "offset"',
)
