/** Once an hour: room for the results of the days to come, and away with what is older than it is kept. */
import { action, every, workflow, z } from 'sluice'
import { retention, schema, warehouse } from '../settings.ts'

const keepSql = `select made, dropped, removed from ${schema}.keep_days($1, $2, $3)`

const keepDays = action('keep-days', {
  input: z.object({}),
  output: z.object({ made: z.int(), dropped: z.int(), removed: z.int() }),
  retry: { attempts: 5, base: '5s' },
  timeout: '5m',
  async run({ connection }) {
    const { results, hours, days } = retention
    const [done] = await connection(warehouse).query<{ made: number; dropped: number; removed: number }>(keepSql, [
      ...[results, hours, days],
    ])
    return done!
  },
})

export default workflow('availability-days', {
  plans: [every('1h')],
  define() {
    keepDays({})
  },
})
