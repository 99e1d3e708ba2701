/** The statements of `src/store` that plans need, over the simulated rows: read by their names and values. */
import type { Handler, Rows, Transaction } from './rows.ts'

export interface RunRow {
  readonly id: string
  readonly workflow: string
  readonly plan: string
  readonly version: string
  readonly logicalTime: number | null
  readonly params: string
  readonly priority: number
}

export interface TickRow {
  readonly workflow: string
  readonly plan: string
  readonly time: number
  readonly event: string
  readonly outcome: string
  readonly reason: string
  readonly runId: string | null
}

export interface RecordRow {
  readonly partition: number
  readonly offset: number
  readonly value: string
  readonly publishedAt: number
}

export interface VersionRow {
  readonly dataset: string
  readonly version: number
  readonly at: number
  readonly workflow: string | null
}

interface Cursor {
  readonly since: number
}

type Columns = readonly (readonly unknown[])[]
type Texts = readonly string[]

const pausedOf = (tx: Transaction, workflow: string) =>
  tx.get<{ paused: boolean }>('workflows', workflow)?.paused ?? false

/** Rows of columns. */
const rowsOf = (columns: Columns): unknown[][] => (columns[0] ?? []).map((_, at) => columns.map((column) => column[at]))

export function addStatements(rows: Rows, now: () => number): void {
  const add = (name: string, handler: Handler) => rows.handlers.set(name, handler)

  add('plans.begin', async (tx, values) => {
    for (const [workflow, plan] of rowsOf(values as Columns)) {
      const key = `${workflow} ${plan}`
      await tx.lock('cursors', key)
      if (!tx.get('cursors', key)) await tx.put('cursors', key, { since: now() })
    }
    return []
  })

  add('plans.take', async (tx, values) => {
    const found: object[] = []
    const wanted = rowsOf(values as Columns) as [string, string][]
    for (const [workflow, plan] of wanted.sort((one, other) => (one.join(' ') < other.join(' ') ? -1 : 1))) {
      const key = `${workflow} ${plan}`
      const cursor = tx.get<Cursor>('cursors', key)
      if (!cursor || !tx.isFree('cursors', key)) continue
      await tx.lock('cursors', key)
      const paused = pausedOf(tx, workflow)
      tx.notes.paused = paused
      found.push({ workflow, plan, since: new Date(cursor.since), paused })
    }
    return found
  })

  add('plans.paused', async (tx, [workflow]) => {
    tx.notes.paused = pausedOf(tx, workflow as string)
    return [{ paused: tx.notes.paused }]
  })

  add('runs.insert', async (tx, values) => {
    const made: object[] = []
    for (const row of rowsOf(values as Columns)) {
      const [id, workflow, version, plan, time, params, , , , priority] = row as [
        string,
        string,
        string,
        string,
        Date | null,
        string,
        null,
        null,
        string,
        number,
      ]
      const logicalTime = time?.getTime() ?? null
      if (logicalTime !== null) {
        // Waits for whoever is about to insert a run of the same tick.
        const key = `${workflow} ${plan} ${logicalTime}`
        await tx.lock('runs of ticks', key)
        if (tx.get('runs of ticks', key)) continue
        await tx.put('runs of ticks', key, { id })
      }
      if (tx.get('runs', id)) throw new Error(`two runs have the id ${id}`)
      await tx.put('runs', id, { id, workflow, plan, version, logicalTime, params, priority } satisfies RunRow)
      made.push({ id })
    }
    return made
  })

  add('plans.tick', async (tx, values) => {
    for (const row of rowsOf(values as Columns)) {
      const [workflow, plan, at, event, outcome, reason, runId] = row as [
        string,
        string,
        Date,
        string,
        string,
        string,
        string | null,
      ]
      const time = at.getTime()
      const key = `${workflow} ${plan} ${time} ${event}`
      await tx.lock('ticks', key)
      const known = tx.get<TickRow>('ticks', key)
      if (!known || (known.runId === null && runId !== null)) {
        await tx.put('ticks', key, { workflow, plan, time, event, outcome, reason, runId } satisfies TickRow)
        tx.notes.ticks.push(key)
      }
      const cursor = tx.get<Cursor>('cursors', `${workflow} ${plan}`)
      if (cursor) await tx.put('cursors', `${workflow} ${plan}`, { since: Math.max(cursor.since, time) })
    }
    return []
  })

  addRecords(add)
  addDatasets(add)
  addDeliveries(add)
}

type Add = (name: string, handler: Handler) => void

function addRecords(add: Add): void {
  const recordsOf = (tx: Transaction) => tx.all<RecordRow>('records')

  add('plan-topics.begin', async (tx, values) => {
    for (const [workflow, plan] of rowsOf(values as Columns)) {
      for (const { partition } of tx.all<{ partition: number }>('partitions')) {
        const key = `${workflow} ${plan} ${partition}`
        await tx.lock('topic cursors', key)
        const next = recordsOf(tx).filter((record) => record.partition === partition).length
        if (!tx.get('topic cursors', key)) await tx.put('topic cursors', key, { partition, next, began: next })
      }
    }
    return []
  })

  add('plan-topics.forget', async () => [])

  add('plan-topics.take', async (tx, [workflow, plan]) => {
    tx.notes.plan = plan as string
    const found: object[] = []
    for (const { partition } of tx.all<{ partition: number }>('partitions')) {
      const key = `${workflow} ${plan} ${partition}`
      await tx.lock('topic cursors', key)
      tx.notes.paused = pausedOf(tx, workflow as string)
      found.push({ ...tx.get('topic cursors', key)!, paused: tx.notes.paused })
    }
    return found
  })

  add('plan-topics.read', async (tx, [, partitions, nexts, limit, bytes]) => {
    const from = new Map((partitions as number[]).map((partition, at) => [partition, (nexts as number[])[at]!]))
    const open = recordsOf(tx)
      .filter(({ partition, offset }) => offset >= from.get(partition)!)
      .map((record) => ({ ...record, nth: record.offset - from.get(record.partition)! }))
      .sort((one, other) => one.nth - other.nth || one.partition - other.partition)
    let before = 0
    const read = open.filter(({ value }) => {
      const fits = before < (bytes as number)
      before += Buffer.byteLength(value)
      return fits
    })
    const page = read.slice(0, limit as number)
    tx.notes.records = { read: page.length, most: limit as number }
    return page.map(({ nth, ...record }) => ({
      ...{
        ...record,
        id: `${record.partition}-${record.offset}`,
        key: null,
        publishedAt: new Date(record.publishedAt),
      },
    }))
  })

  add('plan-topics.move', async (tx, [workflow, plan, , partitions, nexts]) => {
    for (const [at, partition] of (partitions as number[]).entries()) {
      const key = `${workflow} ${plan} ${partition}`
      await tx.put('topic cursors', key, { ...tx.get('topic cursors', key), partition, next: (nexts as number[])[at] })
    }
    return []
  })
}

function addDatasets(add: Add): void {
  const newestOf = (tx: Transaction, dataset: string) =>
    Math.max(0, ...tx.all<VersionRow>('versions').flatMap((row) => (row.dataset === dataset ? row.version : [])))

  add('plan-datasets.begin', async (tx, values) => {
    for (const [workflow, plan, dataset] of rowsOf(values as Columns) as [string, string, string][]) {
      const key = `${workflow} ${plan} ${dataset}`
      await tx.lock('dataset cursors', key)
      const version = newestOf(tx, dataset)
      if (!tx.get('dataset cursors', key)) await tx.put('dataset cursors', key, { dataset, version, began: version })
    }
    return []
  })

  add('plan-datasets.take', async (tx, [workflow, plan, datasets]) => {
    tx.notes.plan = plan as string
    const found: object[] = []
    for (const dataset of [...(datasets as Texts)].sort()) {
      const key = `${workflow} ${plan} ${dataset}`
      await tx.lock('dataset cursors', key)
      tx.notes.paused = pausedOf(tx, workflow as string)
      found.push({ ...tx.get('dataset cursors', key)!, paused: tx.notes.paused })
    }
    return found
  })

  const read =
    (which: 'first' | 'newest'): Handler =>
    async (tx, [datasets, versions, limit]) => {
      tx.notes.versions = tx.all<VersionRow>('versions')
      const rows = (datasets as Texts).flatMap((dataset, at) => {
        const own = tx
          .all<VersionRow>('versions')
          .filter((row) => row.dataset === dataset && row.version > (versions as number[])[at]!)
          .sort((one, other) => one.version - other.version)
        return which === 'first' ? own.slice(0, limit as number) : own.reverse().slice(0, limit as number)
      })
      if (which === 'first')
        rows.sort(
          (one, other) => one.at - other.at || (one.dataset < other.dataset ? -1 : 1) || one.version - other.version,
        )
      return rows.map((row) => ({ ...row, at: new Date(row.at) }))
    }
  add('plan-datasets.read', read('first'))
  add('plan-datasets.newest', read('newest'))

  add('plan-datasets.move', async (tx, [workflow, plan, datasets, versions]) => {
    for (const [at, dataset] of (datasets as Texts).entries()) {
      const key = `${workflow} ${plan} ${dataset}`
      await tx.put('dataset cursors', key, { ...tx.get('dataset cursors', key), version: (versions as number[])[at] })
    }
    return []
  })
}

function addDeliveries(add: Add): void {
  add('hook-deliveries.claim', async (tx, [workflow, plan, keys, runId]) => {
    const found: object[] = []
    for (const key of keys as Texts) {
      const id = `${workflow} ${plan} ${key}`
      await tx.lock('deliveries', id)
      const known = tx.get<{ runId: string }>('deliveries', id)
      if (!known) await tx.put('deliveries', id, { runId })
      found.push({ runId: known?.runId ?? runId })
    }
    return found
  })

  add('hook-deliveries.repoint', async (tx, [workflow, plan, from, to]) => {
    for (const key of tx.keys('deliveries')) {
      if (!key.startsWith(`${workflow} ${plan} `)) continue
      if (tx.get<{ runId: string }>('deliveries', key)?.runId === from) await tx.put('deliveries', key, { runId: to })
    }
    return []
  })
}
