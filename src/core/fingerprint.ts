/**
 * What determines how workflows and their tasks behave, as one sha256 each, so that a change can be told from none: in a
 * retry with the latest code, and in a backfill of what was made by other code.
 *
 * 1. Equal fingerprints mean the same code, arguments and rule, and the same of everything upstream. Different ones may
 *    still behave alike: in doubt a task counts as changed.
 * 2. Policies do not count in a task's graph: retries, time limits, priorities, plans. Nor do comments, the name and
 *    place of the file, nor any other file that it does not import.
 * 3. The code of a task is that of its definition file with all that it imports, less the functions of other actions. So a
 *    change in one action leaves the others as they were; a change of what the file says besides counts for all its tasks.
 */
import { createHash } from 'node:crypto'
import type { NodeManifest, WorkflowManifest } from './manifest.ts'

/** The code of a definition file. */
export interface FileCode {
  /** All that it reaches within the project, in one text. */
  readonly text: string
  /** What it imports from packages, as `name@version`; sorted. */
  readonly packages: readonly string[]
}

/** The functions of a workflow's actions, as texts, by node. */
export type WorkflowFunctions = readonly (readonly string[])[]

export interface FingerprintParts {
  readonly workflows: readonly WorkflowManifest[]
  /** By definition file. */
  readonly codes: ReadonlyMap<string, FileCode>
  /** By workflow. Those of a workflow that is not there are not told apart from the rest of its file. */
  readonly functions: ReadonlyMap<string, WorkflowFunctions>
}

/** The workflows with their fingerprints and those of their nodes; one whose code is not known stays as it is. */
export function withFingerprints({ workflows, codes, functions }: FingerprintParts): WorkflowManifest[] {
  const shared = new Map(
    [...codes].map(([file, code]) => {
      const own = workflows.filter((workflow) => workflow.file === file)
      return [file, sharedCode(code, own, functions)] as const
    }),
  )
  const make = (workflow: WorkflowManifest, startedBy: (name: string) => unknown) => {
    const code = shared.get(workflow.file)
    if (code === undefined) return workflow
    const nodes = fingerprintNodes(workflow, (node, index) => [
      code,
      functions.get(workflow.name)?.[index] ?? [],
      node.kind === 'workflow' ? startedBy(node.action) : null,
    ])
    const { params, stages, output } = workflow
    const prints = nodes.map((node) => node.fingerprint)
    return { ...workflow, nodes, fingerprint: digest([code, params, stages, told(output, prints), prints]) }
  }
  const alone = new Map(workflows.map((workflow) => [workflow.name, make(workflow, () => null).fingerprint]))
  const reached = reach(workflows)
  return workflows.map((workflow) =>
    make(workflow, (name) => [...(reached.get(name) ?? [])].map((other) => alone.get(other) ?? other).sort()),
  )
}

/** What all tasks of a file share. */
function sharedCode(
  { text, packages }: FileCode,
  own: readonly WorkflowManifest[],
  functions: FingerprintParts['functions'],
): string {
  const known = own.every(({ name }) => functions.has(name))
  const texts = new Set(own.flatMap(({ name }) => functions.get(name) ?? []).flat())
  return digest([known ? without(text, texts) : text, packages])
}

/** For each workflow, itself and those that its runs start, and theirs. */
function reach(workflows: readonly WorkflowManifest[]): Map<string, ReadonlySet<string>> {
  const starts = new Map(
    workflows.map(({ name, nodes }) => [
      name,
      nodes.flatMap(({ kind, action }) => (kind === 'workflow' ? [action] : [])),
    ]),
  )
  return new Map(
    workflows.map(({ name }) => {
      const found = new Set([name])
      for (const one of found) for (const other of starts.get(one) ?? []) found.add(other)
      return [name, found]
    }),
  )
}

/** Upstream of a node are nodes before it, but a teardown may be named before: what is not there yet counts by its id. */
function fingerprintNodes(
  { nodes }: WorkflowManifest,
  codeOf: (node: NodeManifest, index: number) => unknown,
): NodeManifest[] {
  const prints: string[] = nodes.map(({ id }) => id)
  return nodes.map((node, index) => {
    const { action, kind, args, over, upstream, rule, arms, choices, teardownOf, approval } = node
    prints[index] = digest([
      codeOf(node, index),
      [action, kind ?? 'action', rule, choices, approval],
      told(args, prints),
      told(over, prints),
      upstream.map((at) => prints[at]).sort(),
      arms?.map(({ branch, arm }) => [prints[branch], arm]),
      teardownOf === undefined ? null : prints[teardownOf],
    ])
    return { ...node, fingerprint: prints[index] }
  })
}

/** A template in which tasks are named by their fingerprints, not by where they stand. */
function told(template: unknown, prints: readonly (string | undefined)[]): unknown {
  if (typeof template !== 'object' || template === null) return template
  if (Array.isArray(template)) return template.map((part) => told(part, prints))
  if ('$ref' in template) {
    const pointer = template.$ref as { readonly from: string; readonly node?: number }
    return { $ref: pointer.node === undefined ? pointer : { ...pointer, node: prints[pointer.node] } }
  }
  return Object.fromEntries(Object.entries(template).map(([key, part]) => [key, told(part, prints)]))
}

/**
 * Takes functions out of a text. One that it does not have exactly once stays: then nobody can say which of the places is
 * the function, and which is something else that others need.
 */
function without(text: string, functions: ReadonlySet<string>): string {
  const once = (part: string) => {
    const at = text.indexOf(part)
    return at >= 0 && text.indexOf(part, at + 1) < 0
  }
  // The longest first: a shorter one may stand within it.
  const cut = [...functions].filter((part) => part !== '' && once(part)).sort((a, b) => b.length - a.length)
  return cut.reduce((left, part) => left.replace(part, () => '\0'), text)
}

/** sha256 in hex of a JSON value, whatever the order of its keys. */
function digest(value: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(inOrder(value)) ?? '')
    .digest('hex')
}

function inOrder(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(inOrder)
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, part]) => [key, inOrder(part)]),
  )
}
