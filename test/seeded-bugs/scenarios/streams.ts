/**
 * Streams under kills between steps and commit, lost answers, zombies, retries, dead letters, duplicates and replays:
 * one that keeps the order of its keys, and one where only the first record of a key goes through the steps.
 */

import { SluiceError } from '../../../src/errors.ts'
import { type Database, type Session, statement } from '../../../src/ports/database.ts'
import { z } from '../../../src/sdk/schema.ts'
import { documents, type Stream, stream } from '../../../src/sdk/stream.ts'
import { topic } from '../../../src/sdk/topic.ts'
import { foldLedger, totals } from '../../../src/store/ledger.ts'
import { replayDeadLetters } from '../../../src/store/replay-dead-letters.ts'
import { inTime, until } from '../../engine-world.ts'
import { StreamWorld } from '../../stream-world.ts'
import type { Findings } from '../findings.ts'
import { Gate, watched } from '../zombie.ts'

const acts = ['ok', 'ok', 'ok', 'same', 'once', 'reject', 'filter', 'ok', 'down', 'slow'] as const
interface Line {
  n: number
  key: string
  act: (typeof acts)[number]
}

/** `mended`: what was down is up again. `begun`: the lines that reached a step, in order. */
function define(name: string, distinct: boolean) {
  const state = { mended: false, begun: [] as Line[] }
  const lines = topic(name, {
    schema: z.object({ n: z.number(), key: z.string(), act: z.enum(acts) }),
    key: (line) => line.key,
    partitions: 2,
  })
  const definition: unknown = stream(name, {
    from: lines,
    id: (line) => line.n,
    key: (line) => line.key,
    ...(distinct ? { distinct } : {}),
    concurrency: { total: 8 },
    retry: { attempts: 3, base: '1ms', max: '2ms' },
    steps: (records) =>
      records.step(async (line: Line, context) => {
        state.begun.push(line)
        await new Promise((resolve) => setTimeout(resolve, line.act === 'slow' ? 10 : line.n % 2))
        if (line.act === 'reject') context.reject('asked for')
        if (line.act === 'filter') context.filter()
        if (line.act === 'once' && context.attempt === 1) throw new Error('once')
        if (line.act === 'down' && !state.mended) throw new Error('it is down')
        return { id: line.act === 'same' ? `of ${line.key}` : `line ${line.n}`, lines: [line.n] }
      }),
    to: documents(name, {
      key: 'id',
      merge: (document: { lines: number[] }, line: Line) => ({ ...document, lines: [...document.lines, line.n] }),
    }),
  })
  return { name, definition: definition as Stream, state }
}

const linesOf = (from: number, to: number): Line[] =>
  Array.from({ length: to - from }, (_, index) => {
    const n = from + index
    return { n, key: `key-${(n * 7) % 23}`, act: acts[(n * 3) % acts.length]! }
  })

export default async function streams(findings: Findings): Promise<void> {
  const world = await StreamWorld.open()
  await findings.within(world, async () => {
    for (const distinct of [false, true])
      await play(world, findings, define(distinct ? 'pictures' : 'readings', distinct), distinct)
    await foldLedger(world.db, new Date(Date.now() + 60_000))
    await findings.look(world, { atRest: true })
  })
}

type Defined = ReturnType<typeof define>

async function play(
  world: StreamWorld,
  findings: Findings,
  { name, definition, state }: Defined,
  distinct: boolean,
): Promise<void> {
  const records: { topic: string; id: string }[] = []
  const publish = async (from: number, to: number) => {
    const lines = linesOf(from, to)
    await world.publishValues(name, lines as never)
    records.push(...lines.map(({ n }) => ({ topic: name, id: `id-${n}` })))
  }
  await world.make(definition)
  await publish(0, 120)
  // Publishing again is not receiving again.
  await publish(100, 140)
  await findings.look(world, { acknowledged: { records } })

  const toRest = async (crashes: readonly Crash[]) => {
    const database = crashing(world.db, crashes)
    for (let tries = 0; ; tries += 1) {
      try {
        await inTime(
          `${name} to be at rest`,
          world.runToRest(definition, { database, limits: { distance: 20, moveAfterMs: 3 } }),
        )
        return
      } catch (thrown) {
        if (!(thrown instanceof SluiceError) || thrown.code !== 'DATABASE_UNREACHABLE' || tries > 20) throw thrown
      }
      await findings.look(world)
    }
  }
  await toRest(['none', 'after', 'before', 'none', 'after', 'before'])
  await findings.look(world, { atRest: true, acknowledged: { records } })
  inOrder(findings, state.begun, name)

  // The holder is cut off in the middle of a commit; another takes its shards and goes on; then the commit arrives.
  await publish(140, 180)
  const gate = findings.opened(new Gate())
  const zombies = await world.openShards(definition, { database: holding(world.db, gate) })
  gate.shut()
  for (const shard of zombies) shard.wake()
  await until('commits to be held', () => gate.held > 0)
  const next = await world.openShards(definition)
  await inTime(`${name} to be taken over`, Promise.all(next.map((shard) => shard.settled())))
  await findings.look(world)
  gate.open()
  await inTime('the zombies to end', Promise.all(zombies.map((shard) => shard.closed)))
  for (const shard of next) await shard.drain(1_000)
  await findings.look(world, { atRest: true, acknowledged: { records } })

  // What is dead is replayed: first while it is still down, then when it is up again.
  const dead = (await totals(world.db, name)).dead
  if (dead === 0) findings.note(11, `${name} has no dead letters`)
  await replayDeadLetters(world.db, name, {}, { distinct })
  await findings.look(world)
  await toRest(['none', 'before'])
  await findings.look(world, { atRest: true })
  state.mended = true
  await replayDeadLetters(world.db, name, {}, { distinct })
  await toRest(['after'])
  await findings.look(world, { atRest: true, acknowledged: { records } })
  await merged(world, findings, name)
  const sums = await totals(world.db, name)
  if (sums.dead > 0 || sums.received !== 180) findings.note(11, `${name} ended as ${JSON.stringify(sums)}`)
}

const ledStatement = statement<{ n: number }>(
  'test.led',
  `with last as (
     select distinct on (partition, "offset") partition, "offset", outcome, detail
     from sluice.ledger_records where stream = $1 order by partition, "offset", at desc, (outcome <> 'waiting') desc
   )
   select (r.value::json ->> 'n')::int as n
   from sluice.topic_records r left join last l using (partition, "offset")
   left join sluice.documents d on d.stream = $1 and d.partition = r.partition and d."offset" = r."offset"
   left join sluice.stream_keys k on k.stream = $1 and k.record_id = l.detail
   where r.topic = $1 and (d.key is not null or (l.outcome = 'duplicate' and (l.detail is null or k.document_key is not null)))
   order by 1`,
)
const linesStatement = statement<{ n: number }>(
  'test.lines',
  `select line::int as n from sluice.documents d, jsonb_array_elements_text(d.body -> 'lines') as line where d.collection = $1 order by 1`,
)

/** Each record that led to a document, as its first or as a duplicate, is in one, once. */
async function merged(world: StreamWorld, findings: Findings, name: string): Promise<void> {
  const led = (await world.db.query(ledStatement, [name])).map(({ n }) => n)
  const lines = (await world.db.query(linesStatement, [name])).map(({ n }) => n)
  if (led.length === 0 || led.join() !== lines.join())
    findings.note(11, `${name}: ${led.length} records led to documents, which are of ${lines.length}: ${lines}`)
}

/** The first tries of each key begin in the order of its records. */
function inOrder(findings: Findings, begun: readonly Line[], name: string): void {
  for (const [key, lines] of Map.groupBy(begun, (line) => line.key)) {
    const firsts = [...new Set(lines.map(({ n }) => n))]
    if (firsts.some((n, index) => index > 0 && n < firsts[index - 1]!))
      findings.note(11, `${name}: ${key} began as ${firsts}`)
  }
}

type Crash = 'before' | 'after' | 'none'

/** Transactions fail as planned: rolled back, or committed though the answer never comes. */
function crashing(db: Database, plan: readonly Crash[]): Database {
  let next = 0
  const fail = (how: string) => new SluiceError('DATABASE_UNREACHABLE', `killed ${how} the commit`)
  return {
    ...db,
    transaction: async (work) => {
      const crash = plan[next++] ?? 'none'
      const result = await db.transaction(async (session) => {
        const result = await work(session)
        if (crash === 'before') throw fail('before')
        return result
      })
      if (crash === 'after') throw fail('after')
      return result
    },
  }
}

/** Commits wait at the gate before their first statement. */
function holding(db: Database, gate: Gate): Database {
  const hold = (session: Session) =>
    watched(session, (sql, go) => (sql.name === 'shards.advance' ? gate.pass(go) : go()))
  return { ...db, transaction: (work) => db.transaction((session) => work(hold(session))) }
}
