// Retries: a failed attempt is tried again after a random wait that grows. Some errors deserve more patience, some
// none: a policy for each, by the code of a Sluice error (TIMEOUT) or the name of the class that was thrown.
import { action, workflow, z } from 'sluice'

class TooManyRequests extends Error {
  override readonly name = 'TooManyRequests'
}
class WrongPassword extends Error {
  override readonly name = 'WrongPassword'
}

const ask = action('ask', {
  input: z.object({ service: z.string() }),
  output: z.object({ attempts: z.int() }),
  retry: {
    attempts: 3,
    base: '10s',
    max: '10m',
    errors: { TooManyRequests: { attempts: 8, base: '1m' }, WrongPassword: { attempts: 1 } },
  },
  run({ input, attempt }) {
    if (input.service === 'locked') throw new WrongPassword('no retry will help')
    if (input.service === 'busy' && attempt.number < 6) throw new TooManyRequests('come back later')
    if (input.service === 'weak' && attempt.number < 3) throw new Error('connection reset')
    return { attempts: attempt.number }
  },
})

export const retries = workflow('retries', {
  params: z.object({ service: z.enum(['well', 'weak', 'busy', 'locked']).default('well') }),
  define: ({ params }) => ask({ service: params.service }),
})
