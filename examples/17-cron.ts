// A plan by the clock: every working day at 02:30 in Paris, also in the nights when clocks are set. Each run is told
// which day it is for. Ticks that passed while nothing ran: the last one is made up for, and any of the past with
// npx sluice backfill daily-sales --from 2026-03-01 --to 2026-04-01 --dry-run
import { action, cron, every, tick, workflow, z } from 'sluice'

const load = action('load-day', {
  input: z.object({ day: z.string(), region: z.string() }),
  output: z.string(),
  run: ({ input }) => `${input.day} of ${input.region}`,
})

export const dailySales = workflow('daily-sales', {
  params: z.object({ day: z.iso.date(), region: z.enum(['eu', 'us']).default('eu') }),
  maxActiveRuns: 1,
  plans: [
    cron('30 2 * * MON-FRI', {
      timezone: 'Europe/Paris',
      catchUp: 'last',
      params: { day: tick.startDate },
    }),
    every('7d', { name: 'weekly', start: '2026-01-04T12:00:00Z', params: { day: tick.date, region: 'us' } }),
  ],
  define: ({ params }) => load({ day: params.day, region: params.region }),
})
