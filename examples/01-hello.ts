// The smallest workflow: one action, called once. Run it: npx sluice run hello --wait, then npx sluice logs RUN.
import { action, workflow } from 'sluice'

const sayHello = action('say-hello', {
  run({ log }) {
    log.info('Hello!')
    return 'Hello!'
  },
})

export const hello = workflow('hello', {
  description: 'Says hello in its log.',
  define: () => sayHello(),
})
