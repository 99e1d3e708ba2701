/** What the rules of the house need to know of a source file, read from its syntax tree (types included). */
import { parseAst } from 'vitest/node'

export interface Source {
  /** Specifiers of every import, export from, dynamic import and import type whose text is fixed. */
  readonly imports: readonly string[]
  /** `process.env`, in any way of reaching it. */
  readonly readsEnvironment: boolean
  /** `Date.now()`, `Math.random()`, `new Date()`: what only a clock or a given source of randomness may say. */
  readonly ambient: readonly string[]
  /** Every fixed text: literals, and templates with `?` for their parts. */
  readonly texts: readonly string[]
}

interface Node {
  readonly type: string
  readonly [field: string]: unknown
}

/** @throws SyntaxError naming `path` when the text is not TypeScript */
export function readSource(path: string, text: string): Source {
  const imports: string[] = []
  const ambient: string[] = []
  const texts: string[] = []
  let readsEnvironment = false

  let program: unknown
  try {
    program = parseAst(text, { lang: path.endsWith('x') ? 'tsx' : 'ts' })
  } catch (cause) {
    throw new SyntaxError(`${path} cannot be parsed`, { cause })
  }
  for (const node of nodesOf(program)) {
    const specifier = specifierOf(node)
    if (specifier !== undefined) imports.push(specifier)
    if (reachesEnvironment(node)) readsEnvironment = true
    const called = ambientCall(node)
    if (called !== undefined) ambient.push(called)
    if (node.type === 'Literal' && typeof node.value === 'string') texts.push(node.value)
    if (node.type === 'TemplateLiteral') texts.push(templateText(node))
  }
  return { imports, readsEnvironment, ambient, texts }
}

function* nodesOf(root: unknown): Generator<Node> {
  const open: unknown[] = [root]
  while (open.length > 0) {
    const next = open.pop()
    if (next === null || typeof next !== 'object') continue
    if (!Array.isArray(next) && typeof (next as Node).type === 'string') yield next as Node
    open.push(...Object.values(next))
  }
}

const importing = new Set([
  'ImportDeclaration',
  'ExportNamedDeclaration',
  'ExportAllDeclaration',
  'ImportExpression',
  'TSImportType',
])

function specifierOf(node: Node): string | undefined {
  if (!importing.has(node.type)) return undefined
  const source = node.source as Node | null | undefined
  return typeof source?.value === 'string' ? source.value : undefined
}

function isNamed(node: unknown, name: string): boolean {
  const { type, name: identifier, value } = (node ?? {}) as Node
  return (type === 'Identifier' && identifier === name) || (type === 'Literal' && value === name)
}

function reachesEnvironment(node: Node): boolean {
  if (node.type === 'MemberExpression') return isNamed(node.object, 'process') && isNamed(node.property, 'env')
  if (node.type === 'VariableDeclarator') {
    const properties = ((node.id as Node).properties ?? []) as Node[]
    return isNamed(node.init, 'process') && properties.some((property) => isNamed(property.key, 'env'))
  }
  return node.type === 'ImportDeclaration' && /^(node:)?process$/.test(String((node.source as Node).value))
}

function ambientCall(node: Node): string | undefined {
  if (node.type === 'MemberExpression') {
    if (isNamed(node.object, 'Date') && isNamed(node.property, 'now')) return 'Date.now'
    if (isNamed(node.object, 'Math') && isNamed(node.property, 'random')) return 'Math.random'
  }
  if (node.type === 'NewExpression' && isNamed(node.callee, 'Date') && (node.arguments as Node[]).length === 0) {
    return 'new Date()'
  }
  return undefined
}

function templateText(node: Node): string {
  return (node.quasis as { value: { raw: string } }[]).map((part) => part.value.raw).join('?')
}
