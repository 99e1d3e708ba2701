/** Shapes of work that does nothing: what remains is the platform's own cost. */
import { action, stage, workflow, z } from 'sluice'

const noop = action('noop', {
  input: z.object({ n: z.number() }),
  output: z.object({ n: z.number() }),
  run: ({ input }) => ({ n: input.n + 1 }),
})
const list = action('list', {
  input: z.object({ size: z.number() }),
  output: z.object({ items: z.array(z.number()) }),
  run: ({ input }) => ({ items: Array.from({ length: input.size }, (_, index) => index) }),
})

/** 1,000 tasks, each taking the result of the one before. */
export const chain = workflow('chain', {
  define() {
    let last = noop({ n: 0 })
    for (let hop = 1; hop < 1_000; hop += 1) last = noop({ n: last.n })
  },
})

/** 40 tasks in sequence. */
export const forty = workflow('forty', {
  define() {
    let last = noop({ n: 0 })
    for (let hop = 1; hop < 40; hop += 1) last = noop({ n: last.n })
  },
})

/** One task, then as many as asked for, at once. */
export const fan = workflow('fan', {
  params: z.object({ size: z.number() }),
  define({ params }) {
    const { items } = list({ size: params.size })
    noop.map(items, (n) => ({ n }))
  },
})

/** 100 stages of 100. */
export const stages = workflow('stages', {
  define() {
    for (let number = 0; number < 100; number += 1) {
      stage(`stage-${number}`, () => {
        for (let task = 0; task < 100; task += 1) noop({ n: task })
      })
    }
  },
})

const stamp = action('stamp', {
  output: z.object({ at: z.number() }),
  run: () => ({ at: performance.timeOrigin + performance.now() }),
})

/** One task that says when its function began, in milliseconds since the epoch. */
export const stamped = workflow('stamped', {
  define() {
    stamp()
  },
})
