// Durable steps: what `step` gave once is there for every later attempt of the task, and is not done again. `sleep`
// gives the runner back for as long as it takes, days if need be: the next attempt goes on behind it.
import { action, workflow, z } from 'sluice'

const invoice = action('send-invoice', {
  input: z.object({ customer: z.string() }),
  output: z.object({ number: z.string(), sent: z.int() }),
  retry: { attempts: 3, base: '1s' },
  async run({ input, step, sleep, attempt, log }) {
    const number = await step('number', () => {
      log.info('a number is taken')
      return `${input.customer}-1001`
    })
    if (attempt.number === 1) throw new Error('the mail server is down')
    await step('mail', () => log.info(`mailed ${number}`))
    await sleep('until it is due', '30d')
    await step('remind', () => log.info(`reminded of ${number}`))
    return { number, sent: 2 }
  },
})

export const durable = workflow('durable', {
  params: z.object({ customer: z.string() }),
  define: ({ params }) => invoice({ customer: params.customer }),
})
