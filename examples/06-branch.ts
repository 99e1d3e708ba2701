// A branch: a value chooses one arm, or several when it is a list; tasks in the other arms are skipped. A task that
// comes after all arms says by its rule that skipped ones are fine.
import { action, branch, group, workflow, z } from 'sluice'

const measure = action('measure', {
  input: z.object({ rows: z.int() }),
  output: z.enum(['none', 'few', 'many']),
  run: ({ input }) => (input.rows === 0 ? 'none' : input.rows < 1_000 ? 'few' : 'many'),
})
const load = action('load', {
  input: z.object({ how: z.string() }),
  output: z.string(),
  run: ({ input }) => `loaded by ${input.how}`,
})
const report = action('report', { run: ({ log }) => log.info('over') })

export const branches = workflow('branches', {
  params: z.object({ rows: z.int() }),
  define({ params }) {
    const loading = group('loading', () => {
      branch(measure({ rows: params.rows }), {
        none: () => {},
        few: () => load({ how: 'insert' }, { id: 'insert' }),
        many: () => {
          load({ how: 'copy' }, { id: 'copy' })
          load({ how: 'index' }, { id: 'index' })
        },
      })
    })
    report({}, { after: loading, rule: 'none_failed' })
  },
})
