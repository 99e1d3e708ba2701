/** Workflows for the tests of clear, retry, pause and approvals. What a task does stands in a file that a test writes. */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { action, approve, branch, each, run, skip, using, wait, workflow, z } from 'sluice'

const params = z.object({ dir: z.string() })

/** `<dir>/<name>` says what it does: `fail`, `skip`, `gate` (until `<name>.go` is there), else its result, a JSON value. */
const act = action('act', {
  input: z.object({ dir: z.string(), name: z.string(), given: z.unknown().optional() }),
  output: z.unknown(),
  async run({ input: { dir, name, given }, attempt, signal, step }) {
    const full = attempt.mapIndex < 0 ? name : `${name}-${attempt.mapIndex}`
    appendFileSync(`${dir}/log`, `${full} ${attempt.number}\n`)
    const read = () => (existsSync(`${dir}/${full}`) ? readFileSync(`${dir}/${full}`, 'utf8') : 'null')
    if (read() === 'gate') {
      writeFileSync(`${dir}/${full}.${attempt.number}.started`, '')
      while (!existsSync(`${dir}/${full}.go`)) await delay(5, undefined, { signal })
      return { full, given }
    }
    await step('noted', () => appendFileSync(`${dir}/log`, `step of ${full} ${attempt.number}\n`))
    const text = read()
    if (text === 'fail') throw new Error(`${full} was told to fail`)
    if (text === 'skip') throw skip(`${full} was told to skip`)
    return text === 'null' ? { full, given } : JSON.parse(text)
  },
})

/** first -> (left, right) -> last; other stands apart. */
export const diamond = workflow('diamond', {
  params,
  define({ params: { dir } }) {
    const first = act({ dir, name: 'first' }, { id: 'first' })
    const left = act({ dir, name: 'left', given: first }, { id: 'left' })
    const right = act({ dir, name: 'right', given: first }, { id: 'right' })
    act({ dir, name: 'other' }, { id: 'other' })
    return { last: act({ dir, name: 'last', given: [left, right] }, { id: 'last' }) }
  },
})

/** `bad` stands apart from slow -> next. */
export const pair = workflow('pair', {
  params,
  define({ params: { dir } }) {
    act({ dir, name: 'bad' }, { id: 'bad' })
    const slow = act({ dir, name: 'slow' }, { id: 'slow' })
    act({ dir, name: 'next', given: slow }, { id: 'next' })
  },
})

/** The list is the result of `list`. */
export const mapped = workflow('mapped', {
  params,
  define({ params: { dir } }) {
    const list = act({ dir, name: 'list' }, { id: 'list' })
    const items = act.map(list as unknown as readonly string[], (item) => ({ dir, name: 'item', given: item }), {
      id: 'item',
    })
    return { sum: act({ dir, name: 'sum', given: items }, { id: 'sum' }) }
  },
})

export const torn = workflow('torn', {
  params,
  define({ params: { dir } }) {
    using(
      () => act({ dir, name: 'setup' }, { id: 'setup' }),
      (made) => {
        const one = act({ dir, name: 'one', given: made }, { id: 'one' })
        act({ dir, name: 'two', given: one }, { id: 'two' })
        act({ dir, name: 'three', given: made }, { id: 'three' })
      },
      (made) => act({ dir, name: 'teardown', given: made }, { id: 'teardown' }),
    )
  },
})

export const chosen = workflow('chosen', {
  params,
  define({ params: { dir } }) {
    const which = act({ dir, name: 'which' }, { id: 'which' })
    branch(which as never, {
      red: () => act({ dir, name: 'red' }, { id: 'red' }),
      blue: () => act({ dir, name: 'blue' }, { id: 'blue' }),
    })
  },
})

export const inner = workflow('inner', {
  params,
  define: ({ params: { dir } }) => ({ made: act({ dir, name: 'inner' }, { id: 'inner' }) }),
})
export const outer = workflow('outer', {
  params,
  define({ params: { dir } }) {
    const made = run(inner, { dir }, { id: 'run' })
    return { after: act({ dir, name: 'after', given: made }, { id: 'after' }) }
  },
})

export const bodies = workflow('bodies', {
  params,
  define({ params: { dir } }) {
    each(['a', 'b'], (item) => act({ dir, name: 'body', given: item }, { id: 'body' }))
  },
})

export const asks = workflow('asks', {
  params: params.extend({ what: z.string().default('numbers') }),
  define({ params: { dir, what } }) {
    const answer = approve('Publish it?', {
      id: 'ask',
      show: { what },
      form: z.object({ amount: z.number().int().min(1), why: z.string().max(20).default('because') }),
    })
    return { answer, after: act({ dir, name: 'after', given: answer }, { id: 'after' }) }
  },
})
/** Answered before its deadline or approved by it. */
export const hurries = workflow('hurries', {
  params,
  define: () => ({ answer: approve('Quick?', { id: 'ask', deadline: '1s', onDeadline: 'approve', onRefuse: 'fail' }) }),
})

export const waits = workflow('waits', {
  params,
  define({ params: { dir } }) {
    const time = wait.for('1h', { id: 'pause' })
    act({ dir, name: 'after' }, { id: 'after', after: time })
  },
})

export const limited = workflow('limited', {
  params,
  timeout: '600s',
  define({ params: { dir } }) {
    act({ dir, name: 'only' }, { id: 'only' })
  },
})
