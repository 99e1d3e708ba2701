/** A run that is read from its rows must stand where the one in memory stands of which nothing is left to write. */
import { advance } from '../../src/core/advance.ts'
import type { ReadyRange, RunProgress } from '../../src/core/run-progress.ts'
import { restoreProgress } from '../../src/core/run-restore.ts'
import { isTerminal } from '../../src/core/task-state.ts'
import type { OwnedRun } from '../../src/engine/owned-run.ts'
import type { SimRun } from './store.ts'

/** What is different, in words. */
export function restoredFaults(run: OwnedRun, row: SimRun, now: number): string[] {
  const held = run.progress
  const widths = [...row.widths].map(([node, width]) => ({ node, width }))
  const { progress, ready } = restoreProgress(held.graph, row.params, [...row.tasks.values()], widths)
  progress.state = row.state
  const wish = held.stopping === undefined ? undefined : held.stopping === 'cancel' ? 'cancel' : 'run-limit'
  const stopped = wish === undefined ? undefined : advance(progress, { kind: wish }, now, () => 0.5)
  const begun = advance(progress, { kind: 'begin' }, now, () => 0.5)
  const faults: string[] = []
  const moved = [...begun.transitions, ...(stopped?.transitions ?? [])]
  if (moved.length > 0 || begun.end || stopped?.end) faults.push(`it goes on by itself: ${JSON.stringify(moved)}`)
  const mine = standOf(held)
  for (const [at, theirs] of standOf(progress).entries())
    if (theirs !== mine[at]) faults.push(`restored ${theirs}, held ${mine[at]}`)
  if (wish === undefined) {
    const open = startable(held)
    const told = [...ready, ...begun.ready].flatMap(tasksOf).sort()
    if (String(open) !== String(told)) faults.push(`ready when restored ${told}, held ${open}`)
  }
  return faults
}

/** Everything that decides what comes next, as text: a line for each node, and one for the gates. */
function standOf(run: RunProgress): string[] {
  const nodes = run.nodes.map((node, index) => {
    const live = [...node.live]
      .sort(([one], [other]) => one - other)
      .map(([at, { attempt, losses, waits, base, token, deferred }]) =>
        [at, attempt, losses, waits, base, token, deferred].join('/'),
      )
    const over = isTerminal(node.state)
    const counted =
      over || run.graph.nodes[index]!.over === undefined ? '' : `${node.ended} ${JSON.stringify(node.counts)}`
    const size = run.graph.nodes[index]!.over === undefined ? 1 : Math.max(0, node.width)
    const results = Array.from({ length: size }, (_, at) => node.results[at] ?? null)
    return `n${index} ${node.state} ${live.join(' ')} ${counted} ${results.join(' ')}`
  })
  return [...nodes, `gates ${JSON.stringify(run.gates)}`, `open ${run.openNodes}`]
}

/** Tasks that were released and have not started. */
function startable(run: RunProgress): string[] {
  return run.nodes
    .flatMap((node, index) => {
      if (node.state !== 'scheduled') return []
      const mapped = run.graph.nodes[index]!.over !== undefined
      const all = mapped ? Array.from({ length: node.width }, (_, at) => at) : [-1]
      return all
        .filter((at) => !node.live.has(at) && node.results[Math.max(0, at)] === undefined)
        .map((at) => `${index}/${at}`)
    })
    .sort()
}

const tasksOf = ({ node, first, last }: ReadyRange): string[] =>
  Array.from({ length: last - first + 1 }, (_, offset) => `${node}/${first + offset}`)
