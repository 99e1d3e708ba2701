// A person decides: the run waits, holding nothing, until someone approves or refuses, through the API, the command
// line or a page. A form comes with the answer, checked by its schema. Unanswered, this one fails after two days.
import { action, approve, workflow, z } from 'sluice'

const prepare = action('prepare', { output: z.object({ rows: z.int() }), run: () => ({ rows: 1_200 }) })
const send = action('send', {
  input: z.object({ rows: z.int(), to: z.string(), by: z.string().nullable() }),
  output: z.string(),
  run: ({ input }) => `${input.rows} rows to ${input.to}, says ${input.by}`,
})

export const approval = workflow('approval', {
  define() {
    const { rows } = prepare()
    const given = approve('publish?', {
      show: { rows },
      form: z.object({ to: z.enum(['test', 'prod']) }),
      deadline: '2d',
      onDeadline: 'fail',
      onRefuse: 'skip',
    })
    return send({ rows, to: given.form.to, by: given.by })
  },
})
