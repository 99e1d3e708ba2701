/**
 * Fields that references name and that cannot be there. The compiler sees them, too; but a build does not ask it, and a
 * task that starts without its argument is found out late.
 */
import type { NodeDefinition } from '../../sdk/graph-builder.ts'
import type { Pointer } from '../../sdk/reference.ts'
import { type Schema, z } from '../../sdk/schema.ts'

/** Says which task uses a parameter or a field of a result that there is not; undefined when all is well or nobody can know. */
export function danglingReference(nodes: readonly NodeDefinition[], params: Schema): string | undefined {
  const parameters = fieldsOf(params)
  const results = new Map<NodeDefinition, ReadonlySet<string> | undefined>()
  const resultOf = (node: NodeDefinition) => {
    if (!results.has(node))
      results.set(node, node.over === undefined && node.action ? fieldsOf(node.action?.options.output) : undefined)
    return results.get(node)
  }
  for (const node of nodes) {
    for (const pointer of [...pointersIn(node.args), ...pointersIn(node.over)]) {
      const [field] = pointer.path
      if (field === undefined || pointer.from === 'item') continue
      const source = pointer.from === 'node' ? nodes[pointer.node] : undefined
      const fields = source ? resultOf(source) : parameters
      if (fields === undefined || fields.has(field)) continue
      const whose = source ? `the field ${field} of ${source.id}'s result` : `the parameter ${field}`
      return `task ${node.id} uses ${whose}; it has ${fields.size === 0 ? 'none' : [...fields].join(', ')}`
    }
  }
  return undefined
}

/** The fields that a value can have, parsed or as it is given; undefined when the schema leaves that open. */
export function fieldsOf(
  schema: Schema | undefined,
  io: 'output' | 'input' = 'output',
): ReadonlySet<string> | undefined {
  if (schema === undefined) return undefined
  const known = knownFields[io]
  if (!known.has(schema)) known.set(schema, readFields(schema, io))
  return known.get(schema)
}

type Fields = ReadonlySet<string> | undefined

/** A workflow may call one action thousands of times. */
const knownFields = { output: new WeakMap<Schema, Fields>(), input: new WeakMap<Schema, Fields>() }

function readFields(schema: Schema, io: 'output' | 'input'): Fields {
  const { type, properties, additionalProperties } = z.toJSONSchema(schema, { unrepresentable: 'any', io })
  const closed = type === 'object' && (additionalProperties === undefined || additionalProperties === false)
  return closed && properties !== undefined ? new Set(Object.keys(properties)) : undefined
}

function* pointersIn(template: unknown): Generator<Pointer> {
  if (typeof template !== 'object' || template === null) return
  if ('$ref' in template) yield template.$ref as Pointer
  else for (const part of Object.values(template)) yield* pointersIn(part)
}
