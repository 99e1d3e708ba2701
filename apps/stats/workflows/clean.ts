/** Removes what is old and aggregated, every minute, and raises the alarm where aggregation does not keep up. */
import { action, every, SluiceError, workflow, z } from 'sluice'
import { backlogBefore, behindText } from '../aggregate/backlog.ts'
import { forgetTokens } from '../clean/forget-tokens.ts'
import { removeRaw } from '../clean/remove-raw.ts'
import { readSettings } from '../settings.ts'
import { warehouse } from '../warehouse.ts'

const removeRawRows = action('remove-raw-rows', {
  output: z.object({ removed: z.int() }),
  retry: { attempts: 5 },
  timeout: '30m',
  async run({ connection, now, progress, signal }) {
    const sql = connection(warehouse)
    const { rawMinutes } = await readSettings(sql)
    let sum = 0
    const onBatch = (removed: number) => {
      sum += removed
      progress(sum)
      signal.throwIfAborted()
    }
    return { removed: await removeRaw(sql, { now: now(), rawMinutes, onBatch }) }
  },
})

const forgetOldTokens = action('forget-tokens', {
  output: z.object({ forgotten: z.int() }),
  retry: { attempts: 5 },
  timeout: '30m',
  async run({ connection, now }) {
    const sql = connection(warehouse)
    const { tokenDays } = await readSettings(sql)
    return { forgotten: await forgetTokens(sql, { now: now(), tokenDays }) }
  },
})

/** Fails while there are events that should be aggregated by now: a run that has failed is the alarm. */
const checkBacklog = action('check-backlog', {
  output: z.object({ waiting: z.int() }),
  retry: { attempts: 5 },
  timeout: '5m',
  async run({ connection, now }) {
    const sql = connection(warehouse)
    const { alertMinutes } = await readSettings(sql)
    const backlog = await backlogBefore(sql, new Date(now().getTime() - alertMinutes * 60_000))
    if (backlog.oldest === null) return { waiting: 0 }
    throw new SluiceError('WORK_BEHIND', behindText(backlog, alertMinutes, now()))
  },
})

/** A minute, so that a raw row is there for ten minutes and not much more. Half a minute apart from the aggregation. */
export const statsClean = workflow('stats-clean', {
  description: 'Removes raw rows and tokens whose time is over, never a row that is not aggregated',
  plans: [every('1m', { start: '2026-01-01T00:00:30Z' })],
  timeout: '1h',
  define() {
    removeRawRows()
    forgetOldTokens()
    checkBacklog()
  },
})
