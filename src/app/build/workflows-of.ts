/** What the manifest says of workflows: their graphs, and those of the bodies inside them. */
import type { NodeManifest, TopicManifest, WorkflowManifest } from '../../core/manifest.ts'
import type { GraphDefinition, NodeDefinition } from '../../sdk/graph-builder.ts'
import type { Workflow } from '../../sdk/workflow.ts'
import type { Definitions } from '../definitions.ts'
import { told, wrongArguments } from './arguments.ts'
import { checkedPolicy, checkWhole, invalid, jsonSchema } from './checks.ts'
import { describePlans } from './plans-of.ts'
import { danglingReference } from './references.ts'

/** Gives the workflow, and behind it the bodies of its `each`, which run as workflows of their own. */
export function describeWorkflow(
  workflow: Workflow,
  definitions: Definitions,
  topics: readonly TopicManifest[],
): WorkflowManifest[] {
  const graph = definitions.graphOf(workflow.name)
  const { name, workers, maxActiveRuns, timeoutMs, priority } = workflow
  const params = jsonSchema(workflow.params, 'params')
  if (workers !== undefined) checkWhole('workers', workers, 1, 10_000)
  if (maxActiveRuns !== undefined) checkWhole('maxActiveRuns', maxActiveRuns, 1, 100_000)
  if (timeoutMs !== undefined) checkWhole('timeout', timeoutMs, 1, Number.MAX_SAFE_INTEGER)
  if (priority !== undefined) checkWhole('priority', priority, -1_000, 1_000)
  const dangling = danglingReference(graph.nodes, workflow.params)
  if (dangling !== undefined) throw invalid(dangling)
  const [wrong] = wrongArguments([graph, ...graph.inner.values()].flatMap(({ nodes }) => nodes))
  if (wrong !== undefined) throw invalid(told(wrong))
  checkRuns(workflow.name, definitions)
  const file = definitions.fileOf(workflow)
  const { description, tags } = workflow
  if (description !== undefined && (typeof description !== 'string' || description.length > 1_000))
    throw invalid('its description is over 1,000 characters, or no text')
  if (tags.length > 20 || new Set(tags).size < tags.length) throw invalid('it has more than 20 tags, or one twice')
  const limits = { description, tags: tags.length > 0 ? tags : undefined, workers, maxActiveRuns, timeoutMs, priority }
  return [
    {
      ...{ name, file, params },
      plans: describePlans(
        workflow.plans,
        { name, params },
        { topics: new Map(topics.map((topic) => [topic.name, topic.schema])) },
      ),
      ...Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined)),
      ...describeGraph(graph),
    },
    ...[...graph.inner].map(([innerName, inner]) => ({
      ...{ name: innerName, file, params: { type: 'object' }, plans: [], inner: true },
      ...describeGraph(inner),
    })),
  ]
}

function describeGraph({ nodes, stages, output }: GraphDefinition) {
  return { stages, nodes: nodes.map(describeNode), ...(output === undefined ? {} : { output }) }
}

function describeNode(node: NodeDefinition): NodeManifest {
  const { kind, action, arms, approval, priority } = node
  const isolation = action?.options.isolation ?? 'shared'
  if (isolation !== 'shared' && isolation !== 'process') {
    throw invalid(`isolation of action ${node.target} is ${JSON.stringify(isolation)}; allowed are shared, process`)
  }
  if (action && typeof action.options.run !== 'function') throw invalid(`action ${node.target} has no run function`)
  const sometimes = {
    kind: kind === 'action' ? undefined : kind,
    over: node.over,
    stage: node.stage,
    group: node.group,
    arms: arms.length > 0 ? arms : undefined,
    choices: node.choices,
    teardownOf: node.teardownOf,
    approval: approval && withoutAbsent(approval),
    withinMs: node.withinMs,
    priority: priority === 0 ? undefined : priority,
    limits: node.limits,
  }
  return {
    ...{ id: node.id, action: node.target, args: node.args, upstream: node.upstream, rule: node.rule },
    ...withoutAbsent(sometimes),
    retry: checkedPolicy(node.retry, 1, `task ${node.id}`),
    timeoutMs: node.timeoutMs,
    isolation,
  }
}

function withoutAbsent<T extends object>(given: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as never
}

/** Workflows that run each other would never come to an end. @throws SluiceError DEFINITION_INVALID with the way round. */
function checkRuns(name: string, definitions: Definitions): void {
  const look = (at: string, way: readonly string[]): void => {
    if (way.includes(at)) throw invalid(`workflows run each other in a circle: ${[...way, at].join(' -> ')}`)
    if (!definitions.workflows.has(at)) throw invalid(`it runs workflow ${at}, which no definition file exports`)
    for (const next of startedBy(definitions.graphOf(at))) look(next, [...way, at])
  }
  look(name, [])
}

function startedBy(graph: GraphDefinition): Set<string> {
  const nodes = [...graph.nodes, ...[...graph.inner.values()].flatMap((inner) => inner.nodes)]
  return new Set(nodes.flatMap(({ kind, target }) => (kind === 'workflow' && !target.includes('.') ? [target] : [])))
}
