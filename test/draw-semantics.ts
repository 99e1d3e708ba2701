/** The tables of docs/semantics.md that are drawn from the code: states, the ways between them, trigger rules. */
import { runStates, runTransitions } from '../src/core/run-state.ts'
import { taskStates, taskTransitions } from '../src/core/task-state.ts'
import { triggerRuleTable } from '../src/core/trigger-rule.ts'

const row = (...cells: readonly string[]) => `| ${cells.join(' | ')} |`
const table = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [row(...head), row(...head.map(() => '---')), ...rows.map((cells) => row(...cells))].join('\n')

/** By the name between the marks `<!-- drawn: name -->` and `<!-- end -->`. */
export const drawings: Readonly<Record<string, string>> = {
  'trigger rules': table(
    ['rule', 'a task runs when'],
    triggerRuleTable.map(({ rule, says }) => [`\`${rule}\``, says]),
  ),
  'task states': taskStates.map((state) => `\`${state}\``).join(' · '),
  'ways of a task': table(
    ['from', 'to', 'by', 'when'],
    taskTransitions.map(({ from, to, by, reason }) => [`\`${from}\``, `\`${to}\``, by, reason]),
  ),
  'run states': runStates.map((state) => `\`${state}\``).join(' · '),
  'ways of a run': table(
    ['from', 'to', 'by', 'when'],
    runTransitions.map(({ from, to, by, reason }) => [`\`${from}\``, `\`${to}\``, by, reason]),
  ),
}

/** The page with every drawing as it is now. */
export function drawn(page: string): string {
  return page.replace(
    /(<!-- drawn: ([a-z ]+) -->\n)[\s\S]*?(\n<!-- end -->)/g,
    (_, start: string, name: string, end: string) => {
      const drawing = drawings[name]
      if (drawing === undefined) throw new Error(`there is no drawing of ${name}`)
      return start + drawing + end
    },
  )
}
