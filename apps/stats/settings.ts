import type { SqlQueries } from 'sluice'
import { z } from 'sluice'

/** Length of a window. Fixed: windows of another length would not fit those that are there. */
export const windowMinutes = 5

/** How many lanes there are: as the generated column of `stats_raw` has it. */
export const laneCount = 16

export const settingsShape = z.strictObject({
  tokenDays: z.int().min(1).max(3_650).meta({
    description: 'Days for which a token is remembered after the day (UTC) of its last event',
    example: 30,
  }),
  rawMinutes: z.int().min(1).max(1_440).meta({
    description: 'Minutes after its reception for which a raw row is kept at least',
    example: 10,
  }),
  alertMinutes: z.int().min(1).max(10_080).meta({
    description: 'Minutes after its reception by which an event must be aggregated; else the cleaning workflow fails',
    example: 15,
  }),
})
export type Settings = z.infer<typeof settingsShape>

export const defaultSettings: Settings = { tokenDays: 30, rawMinutes: 10, alertMinutes: 15 }

const readText = `
  select token_days as "tokenDays", raw_minutes as "rawMinutes", alert_minutes as "alertMinutes" from stats.settings`

export async function readSettings(sql: SqlQueries): Promise<Settings> {
  const [set] = await sql.query<Settings>(readText)
  return set ?? defaultSettings
}

const writeText = `
  insert into stats.settings (token_days, raw_minutes, alert_minutes) values ($1, $2, $3)
  on conflict (one) do update set
    token_days = excluded.token_days, raw_minutes = excluded.raw_minutes, alert_minutes = excluded.alert_minutes`

export async function writeSettings(sql: SqlQueries, { tokenDays, rawMinutes, alertMinutes }: Settings): Promise<void> {
  await sql.query(writeText, [tokenDays, rawMinutes, alertMinutes])
}
