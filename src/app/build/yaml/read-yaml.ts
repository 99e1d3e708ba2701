/**
 * Reads a YAML file as JSON, with the place of everything in it. What YAML 1.1 and 1.2 read differently, what JSON cannot
 * hold, and what is made to exhaust whoever reads it is refused, with its place.
 */
import { isUtf8 } from 'node:buffer'
import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseAllDocuments,
  type Scalar,
} from 'yaml'
import type { Fault } from '../../../errors.ts'
import { below, type Places } from './pointer.ts'

/** Bytes of a file. */
export const maxYamlBytes = 1024 * 1024
/** How deep maps and lists may be nested. */
const maxDepth = 64
const tooDeep = `it is nested deeper than ${maxDepth} levels`
/** How many values all aliases of a file may stand for: a few lines of YAML can otherwise stand for billions. */
const maxAliased = 10_000
/** More are not told of one file. */
const maxFaults = 20

export type ReadYaml = { readonly value: unknown; readonly places: Places } | { readonly faults: readonly Fault[] }

/** @param file the name that faults call it by. */
export function readYaml(file: string, bytes: Uint8Array): ReadYaml {
  const refuse = (message: string, line = 1, column = 1) => ({
    faults: [{ where: `${file}:${line}:${column}`, message }],
  })
  if (bytes.length > maxYamlBytes) {
    return refuse(`it is too large: ${bytes.length} bytes; at most ${maxYamlBytes} (1 MiB) are read`)
  }
  if (!isUtf8(bytes)) return refuse('it is not UTF-8', ...firstBadByte(bytes))
  const text = new TextDecoder().decode(bytes)
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, { prettyErrors: false, lineCounter: lines, uniqueKeys: false })
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset)
    return `${file}:${Math.max(1, line)}:${Math.max(1, col)}`
  }
  if ('empty' in documents) return refuse('it is empty')
  const [document, second] = documents
  if (document === undefined) return refuse('it is empty')
  const wrong = [...document.errors, ...document.warnings]
  // Where the parser gives up depends on the machine.
  if (wrong.some(({ code }) => code === 'RESOURCE_EXHAUSTION')) return refuse(tooDeep)
  if (wrong.length > 0) {
    const faults = wrong.map(({ code, message, pos }) => ({
      where: at(pos[0]),
      message: explained(code, message, text, pos[0]),
    }))
    return { faults: firstOfEach(faults) }
  }
  if (second !== undefined) {
    return { faults: [{ where: at(second.range[0]), message: 'a second document begins here; a file has one' }] }
  }
  const { explicit, version } = document.directives?.yaml ?? { explicit: false, version: '1.2' }
  if (explicit === true && version !== '1.2') return refuse(`it asks for YAML ${version}; files are read as YAML 1.2`)
  const walk = new Walk(at)
  const value = walk.value(document.contents as Node | null, '', 0)
  if (walk.faults.length > 0) return { faults: firstOfEach(walk.faults) }
  return { value, places: walk }
}

function explained(code: string, message: string, text: string, offset: number): string {
  const line = text.slice(text.lastIndexOf('\n', offset - 1) + 1).split('\n', 1)[0] as string
  const hint = /[[{,:]\s*\$\{\{/.test(line) && /[[{].*\$\{\{/.test(line)
  if (code === 'TAB_AS_INDENT') return 'a tab indents this line; YAML is indented by spaces'
  return hint ? `${message}; inside [ ] and { } an expression stands in quotes: "\${{ ... }}"` : message
}

/** One mistake is often told several times, or at each place that it makes unreadable. */
function firstOfEach(faults: readonly Fault[]): Fault[] {
  return [
    ...new Map(faults.map((fault) => [`${fault.where.replace(/:\d+$/, '')} ${fault.message}`, fault])).values(),
  ].slice(0, maxFaults)
}

function firstBadByte(bytes: Uint8Array): [line: number, column: number] {
  let line = 1
  for (let from = 0; from < bytes.length; line += 1) {
    const end = bytes.indexOf(10, from)
    const part = bytes.subarray(from, end < 0 ? bytes.length : end)
    if (!isUtf8(part)) return [line, [...new TextDecoder().decode(part)].indexOf('\uFFFD') + 1]
    from = end < 0 ? bytes.length : end + 1
  }
  return [1, 1]
}

/** Goes through the nodes of a document once, in the order of the file. */
class Walk implements Places {
  readonly faults: Fault[] = []
  private readonly at: (offset: number) => string
  private readonly keys = new Map<string, number>()
  private readonly values = new Map<string, number>()
  private readonly anchors = new Map<string, Node>()
  private readonly open = new Set<Node>()
  /** How many aliases stand around what is looked at, and how many values were found inside any. */
  private inside = 0
  private aliased = 0

  constructor(at: (offset: number) => string) {
    this.at = at
  }

  of(pointer: string, part: 'key' | 'value' = 'value'): string {
    for (let around = pointer; ; around = around.slice(0, around.lastIndexOf('/'))) {
      const found = (part === 'key' ? this.keys.get(around) : undefined) ?? this.values.get(around)
      if (found !== undefined || around === '') return this.at(found ?? 0)
    }
  }

  value(node: Node | null, pointer: string, depth: number): unknown {
    if (node === null) return null
    const offset = node.range?.[0] ?? 0
    this.values.set(pointer, offset)
    if (isAlias(node)) return this.alias(node.source, offset, pointer, depth)
    if (this.inside > 0) this.aliased += 1
    if (this.aliased > maxAliased) return null
    if (depth > maxDepth) return this.fault(offset, tooDeep)
    const anchor = (node as { anchor?: string }).anchor
    if (anchor !== undefined) this.anchors.set(anchor, node)
    if (node.tag !== undefined && !plainTags.has(node.tag))
      return this.fault(offset, `the tag ${node.tag} is not known`)
    this.open.add(node)
    try {
      if (isMap(node)) return this.map(node.items as Pair<Node, Node | null>[], pointer, depth)
      if (isSeq(node)) {
        return node.items.map((item, index) => this.value(item as Node, below(pointer, index), depth + 1))
      }
      return isScalar(node) ? this.scalar(node, offset) : null
    } finally {
      this.open.delete(node)
    }
  }

  private map(items: readonly Pair<Node, Node | null>[], pointer: string, depth: number): object {
    const lineOf = (offset: number) => this.at(offset).split(':').at(-2)
    const seen = new Map<string, number>()
    const entries = items.flatMap(({ key, value }) => {
      const offset = key?.range?.[0] ?? 0
      const name = this.key(key, offset)
      if (name === undefined) return []
      const before = seen.get(name)
      if (before !== undefined) {
        this.fault(offset, `the key ${name} is there twice; first in line ${lineOf(before)}`)
        return []
      }
      seen.set(name, offset)
      const at = below(pointer, name)
      this.keys.set(at, offset)
      // What has no value is told of at its key.
      this.values.set(at, offset)
      return [[name, this.value(value, at, depth + 1)] as const]
    })
    return Object.fromEntries(entries)
  }

  private key(key: Node, offset: number): string | undefined {
    if (!isScalar(key)) {
      this.fault(offset, 'a key is a text, not a list, a map or an alias')
      return undefined
    }
    if (key.value === '<<' && key.type === 'PLAIN') {
      this.fault(offset, 'merge keys (<<) are not of YAML 1.2; write the keys out, or name the whole map by an alias')
      return undefined
    }
    if (typeof key.value === 'string') return key.value
    const shown = key.source === undefined || key.source === '' ? 'An empty key' : `the key ${key.source}`
    this.fault(offset, `${shown} is no text; write it in quotes`)
    return undefined
  }

  private alias(name: string, offset: number, pointer: string, depth: number): unknown {
    const target = this.anchors.get(name)
    if (target === undefined) return this.fault(offset, `the alias *${name} has no anchor &${name} before it`)
    if (this.open.has(target)) return this.fault(offset, `the alias *${name} stands inside what it names`)
    const before = this.aliased
    this.inside += 1
    const value = this.value(target, pointer, depth)
    this.inside -= 1
    this.values.set(pointer, offset)
    if (this.aliased > maxAliased && before <= maxAliased && this.inside === 0) {
      return this.fault(offset, `the aliases stand for more than ${maxAliased} values; write less by aliases`)
    }
    return value
  }

  private scalar({ value, source = '', type, tag }: Scalar, offset: number): unknown {
    if (typeof value === 'string' && value.includes('\0'))
      return this.fault(offset, 'a text cannot have a NUL character')
    const trap = type === 'PLAIN' && tag === undefined ? trapIn(source, value) : undefined
    return trap === undefined ? value : this.fault(offset, trap)
  }

  private fault(offset: number, message: string): null {
    if (this.faults.length < maxFaults * 5) this.faults.push({ where: this.at(offset), message })
    return null
  }
}

const plainTags = new Set(
  ['str', 'int', 'float', 'bool', 'null', 'map', 'seq'].map((name) => `tag:yaml.org,2002:${name}`),
)
const truths: ReadonlyMap<string, boolean> = new Map([
  ['yes', true],
  ['on', true],
  ['no', false],
  ['off', false],
])

/** Why a word without quotes is not what its writer may have meant. */
function trapIn(source: string, value: unknown): string | undefined {
  const truth = truths.get(source.toLowerCase())
  if (truth !== undefined) {
    return `${source} without quotes is a text in YAML 1.2 and ${truth} in YAML 1.1; write ${truth}, or "${source}" for the text`
  }
  if (/^[-+]?0o?\d+$/.test(source)) {
    const octal = Number.parseInt(source.replace(/^[-+]?0o?/, ''), 8)
    const decimal = source.includes('o') ? octal : Number(source)
    return `${source} reads as ${decimal} here and otherwise elsewhere (octal); write ${decimal}, or "${source}" for the text`
  }
  if (typeof value !== 'number') return undefined
  if (!Number.isFinite(value)) return `${source} is no number that JSON can hold`
  if (Number.isInteger(value) && !Number.isSafeInteger(value) && /^[-+]?\d+$/.test(source))
    return `${source} is too large to be kept exactly; write it in quotes`
  return undefined
}
