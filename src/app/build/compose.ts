/**
 * What a version consists of: the files that are sound, as they are now; those that are wrong, as they were last good, if
 * that is known and still loads; and of wrong files that never were good, what is right in them.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type FileCode, withFingerprints } from '../../core/fingerprint.ts'
import type { EntryManifest, KeptFile, Manifest, WorkflowManifest } from '../../core/manifest.ts'
import { type Fault, SluiceError } from '../../errors.ts'
import { type Bundle, bundle, codeOf } from './bundle.ts'
import { type Evaluated, evaluate } from './evaluate.ts'
import { copyModule, type Earlier, type Keeping, keep, readEarlier } from './last-good.ts'
import type { Described } from './manifest-of.ts'
import { findNodeModules } from './project-files.ts'
import type { Read } from './read-still.ts'
import type { Settled } from './version.ts'
import { isYaml } from './yaml/module.ts'

export interface Composed {
  readonly manifest: Omit<Manifest, 'format' | 'hash'>
  /** Paths of all code in the folder. */
  readonly code: readonly string[]
}

/** Writes the version's code into a folder, which is made. */
export async function compose(settled: Settled, read: Read, folder: string): Promise<Composed> {
  const { projectDir, versions, lastGood } = settled
  const earlier = lastGood === undefined ? undefined : await readEarlier(join(versions, lastGood))
  const wrong = new Map<string, readonly Fault[]>()
  const keeping = new Map<string, Keeping>()
  let live = await look(settled, read.bundled, folder)
  while (earlier !== undefined) {
    const news = [...live.broken.keys()].filter((file) => !keeping.has(file))
    const broken = await textsOf(projectDir, news)
    for (const one of keep({ earlier: earlier.manifest, files: read.files, broken })) {
      keeping.set(one.entry.file, one)
      wrong.set(one.entry.file, live.broken.get(one.entry.file) ?? [])
    }
    // What the others say without these is asked anew: they may have shared a name.
    const others = live.bundled.entries.map(({ file }) => file).filter((file) => !keeping.has(file))
    if (others.length === live.bundled.entries.length) break
    live = await look(settled, await bundle(projectDir, others, folder), folder)
  }
  const old =
    earlier === undefined ? nothingKept : await bringBack(settled, earlier, [...keeping.values()], live, folder)
  const definitions = together({ ...live.described, workflows: await fingerprinted(projectDir, live) }, old)
  const kept = old.entries.map(({ file, from }): KeptFile => ({ file, version: from, faults: wrong.get(file) ?? [] }))
  return {
    manifest: {
      entries: [...live.entries, ...old.entries],
      ...definitions,
      faults: distinct([...live.faults, ...[...wrong.values()].flat(), ...old.faults]),
      ...(kept.length === 0 ? {} : { kept }),
    },
    code: [...[...live.bundled.files.keys()].filter((path) => path.endsWith('.js')), ...old.code],
  }
}

/** What the files say as they are now. */
interface Live {
  readonly bundled: Bundle
  /** Those that could be imported. */
  readonly entries: readonly EntryManifest[]
  readonly broken: ReadonlyMap<string, readonly Fault[]>
  readonly faults: readonly Fault[]
  readonly described: Described
  readonly functions: Evaluated['functions']
}

async function look(settled: Settled, bundled: Bundle, folder: string): Promise<Live> {
  await writeBundle(bundled, folder)
  const { files, described, broken, functions } = await ask(settled, folder, bundled.entries)
  return {
    bundled,
    entries: bundled.entries.filter(({ file }) => files.includes(file)),
    broken: new Map([...bundled.broken, ...Object.entries(broken)]),
    faults: [...bundled.faults, ...described.faults],
    described,
    functions,
  }
}

async function ask(settled: Settled, folder: string, entries: readonly EntryManifest[]): Promise<Evaluated> {
  const told = await evaluate({ what: 'definitions', folder, entries }, settled)
  if ('described' in told) return told
  throw new SluiceError('INTERNAL', 'The definitions were answered with settings')
}

/** Into an empty folder: what is there is removed. */
export async function writeBundle({ files }: Bundle, folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'package.json'), '{"type":"module"}\n')
  for (const [path, text] of files) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), text)
  }
}

type Defined = Omit<Described, 'faults'>

interface Kept extends Defined {
  readonly entries: readonly Keeping['entry'][]
  readonly code: readonly string[]
  /** Why some of them do not load any more. */
  readonly faults: readonly Fault[]
}

const nothing = { workflows: [], topics: [], streams: [], endpoints: [], commands: [] }
const nothingKept: Kept = { ...nothing, entries: [], code: [], faults: [] }

/** Copies modules of an earlier version and asks them again: what they need may be gone. */
async function bringBack(
  settled: Settled,
  earlier: Earlier,
  keeping: readonly Keeping[],
  live: Live,
  folder: string,
): Promise<Kept> {
  const code = new Map<string, readonly string[]>()
  for (const { module, entry } of keeping) code.set(entry.file, await copyModule(earlier, module, folder))
  let kept = nothingKept
  const add = (entries: readonly Keeping['entry'][], { files, broken, described }: Evaluated) => {
    const loaded = entries.filter(({ file }) => files.includes(file) && (!isYaml(file) || broken[file] === undefined))
    const own = (one: { readonly file: string }) => loaded.some(({ file }) => file === one.file)
    const workflows = described.workflows.filter(own).map((one) => printed(one, earlier))
    kept = {
      ...together(kept, { ...described, workflows }),
      entries: [...kept.entries, ...loaded],
      code: [...new Set([...kept.code, ...loaded.flatMap(({ file }) => code.get(file) ?? [])])],
      faults: [...kept.faults, ...entries.flatMap(({ file }) => broken[file] ?? []).map(noLonger)],
    }
  }
  // Those that come from one version share what they import, as they did there; others know nothing of it.
  const modules = keeping.map(({ entry }) => entry).filter(({ file }) => !isYaml(file))
  for (const from of new Set(modules.map((entry) => entry.from))) {
    const group = modules.filter((entry) => entry.from === from)
    add(group, await ask(settled, folder, group))
  }
  // Documents name what any file defines.
  const documents = keeping.map(({ entry }) => entry).filter(({ file }) => isYaml(file))
  if (documents.length > 0) {
    const told = await ask(settled, folder, [...live.entries, ...kept.entries, ...documents])
    add(documents, { ...told, described: { ...nothing, workflows: told.described.workflows, faults: [] } })
  }
  return kept
}

const noLonger = ({ where, message }: Fault): Fault => ({
  where,
  message: `as it was last good it cannot be loaded any more: ${message}`,
})

/** The same code has the same fingerprints. */
function printed(workflow: WorkflowManifest, { manifest }: Earlier): WorkflowManifest {
  const before = manifest.workflows.find(({ name }) => name === workflow.name)
  if (before?.fingerprint === undefined) return workflow
  const nodes = workflow.nodes.map((node, index) => {
    const fingerprint = before.nodes[index]?.fingerprint
    return fingerprint === undefined ? node : { ...node, fingerprint }
  })
  return { ...workflow, nodes, fingerprint: before.fingerprint }
}

/** What the second says besides the first. */
function together(first: Defined, second: Defined): Defined {
  const unite = <Kind>(some: readonly Kind[], more: readonly Kind[], nameOf: (one: Kind) => string): Kind[] => {
    const names = new Set(some.map(nameOf))
    return [...some, ...more.filter((one) => !names.has(nameOf(one)))]
  }
  const named = ({ name }: { readonly name: string }) => name
  return {
    workflows: unite(first.workflows, second.workflows, named),
    topics: unite(first.topics, second.topics, named),
    streams: unite(first.streams, second.streams, named),
    endpoints: unite(first.endpoints, second.endpoints, ({ method, path }) => `${method} ${path}`),
    commands: unite(first.commands, second.commands, named),
  }
}

const distinct = (faults: readonly Fault[]): Fault[] => [
  ...new Map(faults.map((fault) => [`${fault.where} ${fault.message}`, fault])).values(),
]

async function textsOf(projectDir: string, files: readonly string[]): Promise<Map<string, string>> {
  const texts = files.map(
    async (file) => [file, await readFile(join(projectDir, file), 'utf8').catch(() => '')] as const,
  )
  return new Map(await Promise.all(texts))
}

async function fingerprinted(
  projectDir: string,
  { described, functions, bundled }: Pick<Live, 'described' | 'functions' | 'bundled'>,
): Promise<WorkflowManifest[]> {
  const { workflows } = described
  const modules = findNodeModules(projectDir)
  const codes = new Map<string, FileCode>()
  const files = bundled.entries.map(({ file }) => file)
  for (const file of new Set(workflows.map((workflow) => workflow.file))) {
    // One that has changed since is built anew.
    const code = await codeOf(projectDir, file, files).catch(() => undefined)
    if (code === undefined) continue
    const packages = code.packages.filter((name) => name !== 'sluice')
    const versions = packages.map(async (name) => `${name}@${await versionOf(join(modules, name))}`)
    codes.set(file, { text: code.text, packages: await Promise.all(versions) })
  }
  return withFingerprints({ workflows, codes, functions: new Map(Object.entries(functions)) })
}

async function versionOf(folder: string): Promise<string> {
  const text = await readFile(join(folder, 'package.json'), 'utf8').catch(() => '{}')
  return String((JSON.parse(text) as { version?: unknown }).version)
}
