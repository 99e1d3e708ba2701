/** Counts again, by SQL of its own and by reading the files, what must be true when a house is at rest. */
import { createHash } from 'node:crypto'
import { glob, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type pg from 'pg'
import type { Catalog, Expected } from './catalogs.ts'

/** Connects for one question at a time: the server may be gone at any moment. */
export type Ask = <Row extends pg.QueryResultRow>(sql: string, values?: readonly unknown[]) => Promise<Row[]>

/** What holds at every moment, faults or not. Gives what does not. */
export async function brokenNow(ask: Ask): Promise<string[]> {
  const gaps = await ask<{ what: string }>(`
    select format('batches of %s/%s: one ends at %s, the next begins at %s', stream, partition, before, from_offset) as what
    from (
      select stream, partition, from_offset,
        lag(to_offset, 1, 0::bigint) over (partition by stream, partition order by from_offset, to_offset) as before
      from sluice.ledger_batches where to_offset > from_offset
    ) as b where from_offset <> before
    union all
    select format('shard %s/%s is at %s, its batches at %s', s.stream, s.partition, s.committed_offset, max(b.to_offset))
    from sluice.shards s join sluice.ledger_batches b using (stream, partition)
    group by s.stream, s.partition having s.committed_offset <> max(b.to_offset)
    union all
    select format('%s documents of %s record %s', count(*), stream, record_id) from sluice.documents
    where record_id is not null group by collection, stream, record_id having count(*) > 1
    union all
    select format('attempts of run %s task %s/%s are %s', run_id, node, map_index, array_agg(attempt order by seq))
    from sluice.transitions where node >= 0 and to_state = 'running' group by run_id, node, map_index
    having min(attempt) <> 1 or max(attempt) <> count(*)
      or array_agg(attempt order by seq) <> array_agg(attempt order by attempt)
    union all
    select format('run %s has sequence %s and %s transitions', r.id, r.seq, count(t.seq))
    from sluice.runs r left join sluice.transitions t on t.run_id = r.id
    group by r.id having r.seq <> count(t.seq) or count(t.seq) <> count(distinct t.seq)`)
  return gaps.map(({ what }) => what)
}

/** What holds at rest, beside what `brokenNow` says. */
export async function brokenAtRest(
  ask: Ask,
  home: string,
  catalogs: readonly Catalog[],
  expected: Expected,
): Promise<string[]> {
  return [
    ...(await brokenRecords(ask, catalogs)),
    ...(await brokenEnds(ask, expected)),
    ...(await brokenPictures(ask, expected)),
    ...(await brokenRuns(ask)),
    ...(await brokenObjects(ask, home, expected)),
  ]
}

/** Each line that is not blank was received once. */
async function brokenRecords(ask: Ask, catalogs: readonly Catalog[]): Promise<string[]> {
  const rows = await ask<{ record: string; times: number }>(`
    select concat_ws(' ', value::jsonb ->> 'catalog', value::jsonb ->> 'line', value::jsonb ->> 'url') as record,
      count(*)::int as times
    from sluice.topic_records where topic = 'image-urls' group by 1`)
  const received = new Map(rows.map(({ record, times }) => [record, times]))
  const wanted = new Set(
    catalogs.flatMap(({ name, records }) => records.map(({ line, url }) => `${name} ${line} ${url}`)),
  )
  return [
    ...[...wanted].filter((record) => !received.has(record)).map((record) => `lost: ${record}`),
    ...[...received].filter(([, times]) => times > 1).map(([record, times]) => `received ${times} times: ${record}`),
    ...[...received.keys()].filter((record) => !wanted.has(record)).map((record) => `from nowhere: ${record}`),
  ].slice(0, 20)
}

/** Each record has one end, and as many have each as must. */
async function brokenEnds(ask: Ask, expected: Expected): Promise<string[]> {
  const rows = await ask<{ outcome: string; reason: string | null; records: number }>(`
    with last as (
      select distinct on (partition, "offset") partition, "offset", outcome, reason from sluice.ledger_records
      where stream = 'images' order by partition, "offset", at desc, (outcome = 'waiting')
    ), ends as (
      select coalesce(l.outcome, case when d."offset" is null then 'nothing' else 'written' end) as outcome, l.reason
      from sluice.topic_records t
      left join last l on l.partition = t.partition and l."offset" = t."offset"
      left join sluice.documents d on d.stream = 'images' and d.partition = t.partition and d."offset" = t."offset"
      where t.topic = 'image-urls'
    )
    select outcome, case when outcome = 'rejected' then reason end as reason, count(*)::int as records
    from ends group by 1, 2`)
  const found = (outcome: string) =>
    rows.filter((row) => row.outcome === outcome).reduce((sum, row) => sum + row.records, 0)
  const broken: string[] = []
  const compare = (what: string, is: number, should: number) => {
    if (is !== should) broken.push(`${what}: ${is}, and should be ${should}`)
  }
  compare('written', found('written'), expected.written)
  compare('duplicate', found('duplicate'), expected.duplicate)
  for (const outcome of ['nothing', 'waiting', 'dead', 'filtered']) compare(outcome, found(outcome), 0)
  const reasons = Object.fromEntries(
    rows.filter((row) => row.outcome === 'rejected').map((row) => [row.reason ?? '', row.records]),
  )
  for (const reason of new Set([...Object.keys(reasons), ...Object.keys(expected.rejectedByReason)]))
    compare(`rejected, ${reason}`, reasons[reason] ?? 0, expected.rejectedByReason[reason] ?? 0)
  const [left] = await ask<{ left: number }>('select count(*)::int as left from sluice.stream_waiting')
  compare('left in the durable table', left!.left, 0)
  return broken
}

/** Each picture is there once, under its hash, with every line that led to it. */
async function brokenPictures(ask: Ask, { pictures }: Expected): Promise<string[]> {
  const rows = await ask<{ key: string; lines: string[] }>(`
    select d.key, array_agg(concat_ws(' ', s ->> 'catalog', s ->> 'line', s ->> 'url')) as lines
    from sluice.documents d, jsonb_array_elements(d.body -> 'sources') as s
    where d.collection = 'images' group by d.key`)
  const found = new Map(rows.map(({ key, lines }) => [key, lines.sort().join('\n')]))
  return [
    ...[...pictures].flatMap(([sha256, lines]) =>
      found.get(sha256) === lines.join('\n')
        ? []
        : [`the picture ${sha256} has the sources ${found.get(sha256)}, and should have ${lines.join('\n')}`],
    ),
    ...[...found.keys()]
      .filter((sha256) => !pictures.has(sha256))
      .map((sha256) => `the picture ${sha256} is of no line`),
  ].slice(0, 5)
}

async function brokenRuns(ask: Ask): Promise<string[]> {
  const rows = await ask<{ what: string }>(`
    select format('run %s of %s is %s: %s', id, workflow, state, error) as what from sluice.runs where state <> 'success'
    union all
    select format('task %s/%s of run %s is %s, token %s', node, map_index, run_id, state, token) from sluice.tasks
    where token is not null or state not in ('success')`)
  return rows.map(({ what }) => what).slice(0, 10)
}

/** Every object has the hash that is its name; those that are referred to are there, and nothing is half written. */
async function brokenObjects(ask: Ask, home: string, { pictures }: Expected): Promise<string[]> {
  const objects = join(home, 'objects')
  const broken: string[] = []
  const stored = new Set<string>()
  for await (const path of glob('[0-9a-f][0-9a-f]/*', { cwd: objects })) {
    const name = path.split('/').at(-1)!
    stored.add(name)
    const sha256 = createHash('sha256')
      .update(await readFile(join(objects, path)))
      .digest('hex')
    if (sha256 !== name) broken.push(`the object ${name} has the hash ${sha256}`)
  }
  const referred = await ask<{ sha256: string }>(
    `select distinct encode(sha256, 'hex') as sha256 from sluice.object_refs`,
  )
  for (const sha256 of new Set([...pictures.keys(), ...referred.map((row) => row.sha256)]))
    if (!stored.has(sha256)) broken.push(`the object ${sha256} is missing`)
  return broken.slice(0, 10)
}
