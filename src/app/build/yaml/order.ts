/** In which order tasks can be called: each after those that it waits for, else as they are written. */

/** @param waitsFor per task, the indices of those that it waits for. @returns the order, or a circle: `[a, b, a]`. */
export function orderOf(
  waitsFor: readonly ReadonlySet<number>[],
): { order: readonly number[] } | { circle: readonly number[] } {
  const open = waitsFor.map((before) => before.size)
  const behind: number[][] = waitsFor.map(() => [])
  for (const [task, before] of waitsFor.entries()) for (const other of before) behind[other]?.push(task)
  const ready = open.flatMap((count, task) => (count === 0 ? [task] : []))
  const order: number[] = []
  // Kahn's algorithm; a heap is not needed, since the order need only be the same each time.
  for (let at = 0; at < ready.length; at += 1) {
    const task = ready[at] as number
    order.push(task)
    for (const next of behind[task] as number[]) {
      open[next] = (open[next] as number) - 1
      if (open[next] === 0) ready.push(next)
    }
  }
  if (order.length === waitsFor.length) return { order }
  // What is left waits for something that is left, so that going from one to the next ends in a circle.
  const trail: number[] = []
  const seen = new Map<number, number>()
  for (let task = open.findIndex((count) => count > 0); ; ) {
    const before = seen.get(task)
    if (before !== undefined) return { circle: [...trail.slice(before), task] }
    seen.set(task, trail.push(task) - 1)
    task = [...(waitsFor[task] as ReadonlySet<number>)].find((other) => (open[other] as number) > 0) as number
  }
}
