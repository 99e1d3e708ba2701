/**
 * Bundles definition files: each becomes one module, and what they share becomes modules of its own, so that a topic
 * that two files import is one object. Packages, `sluice` among them, stay outside. Nothing is written here.
 *
 * 1. What comes out depends on the project's files alone, not on where they or the output lie: source maps name the
 *    originals relative to the project, and shared modules are named by their code.
 * 2. A file that cannot be bundled is reported, with all that is wrong with it, and the others go on.
 */
import { createHash } from 'node:crypto'
import { isBuiltin } from 'node:module'
import { dirname, join, posix, relative, resolve, sep } from 'node:path'
import { type BuildFailure, type BuildOptions, type BuildResult, build as esbuild, type Message } from 'esbuild'
import type { Fault } from '../../errors.ts'
import { documentText, isYaml, yamlModules } from './yaml/module.ts'

export interface Bundle {
  /** Contents by path relative to the output folder: code (`.js`) and source maps (`.js.map`). */
  readonly files: ReadonlyMap<string, string>
  readonly entries: readonly { readonly file: string; readonly module: string }[]
  /** Every file that went in, relative to the project. */
  readonly inputs: readonly string[]
  readonly faults: readonly Fault[]
  /** The faults of each file that could not be bundled; one of what two files share is named with both. */
  readonly broken: ReadonlyMap<string, readonly Fault[]>
}

type Built = BuildResult<{ write: false; metafile: true }>

/** @param files relative to the project, with `/`. @param outdir any folder: it must make no difference. */
export async function bundle(projectDir: string, files: readonly string[], outdir: string): Promise<Bundle> {
  const documents = await yamlModules(projectDir, files.filter(isYaml))
  const code = await bundleCode(
    projectDir,
    files.filter((file) => !isYaml(file)),
    outdir,
  )
  const broken = new Map([...code.broken, ...documents.broken])
  const place = new Map(files.map((file, index) => [file, index]))
  return {
    files: new Map([...code.files, ...documents.files].sort(([a], [b]) => (a < b ? -1 : 1))),
    entries: [...code.entries, ...documents.entries].sort((a, b) => place.get(a.file)! - place.get(b.file)!),
    inputs: [...code.inputs, ...files.filter(isYaml)].sort(),
    faults: distinct(broken),
    broken,
  }
}

async function bundleCode(projectDir: string, files: readonly string[], outdir: string): Promise<Bundle> {
  const run = (some: readonly string[]) => esbuild(optionsFor(projectDir, some, outdir))
  if (files.length === 0) return { ...nothing, broken: new Map() }
  try {
    return settle(projectDir, files, outdir, await run(files), new Map())
  } catch (thrown) {
    if (!isBuildFailure(thrown)) throw thrown
  }
  // Which files are wrong is seen by bundling each alone; a fault in what they share shows up once.
  const alone = await Promise.all(
    files.map((file) =>
      run([file]).then(
        () => [],
        (thrown: unknown) => faultsOf(thrown, file),
      ),
    ),
  )
  const broken = new Map(
    files.flatMap((file, index) => ((alone[index] ?? []).length > 0 ? [[file, alone[index] ?? []] as const] : [])),
  )
  const sound = files.filter((file) => !broken.has(file))
  if (sound.length === 0) return { ...nothing, faults: distinct(broken), broken }
  return settle(projectDir, sound, outdir, await run(sound), broken)
}

const nothing = { files: new Map(), entries: [], inputs: [], faults: [] }

const distinct = (broken: Bundle['broken']): Fault[] => [
  ...new Map([...broken.values()].flat().map((fault) => [`${fault.where} ${fault.message}`, fault])).values(),
]

/**
 * All code of the project that a definition file reaches, in one text, and the packages that it imports. Other files make no
 * difference to it, nor do comments, nor where anything lies. A YAML file calls actions of any other: all count for it.
 * @param files all definition files.
 */
export async function codeOf(
  projectDir: string,
  file: string,
  files: readonly string[],
): Promise<{ text: string; packages: string[] }> {
  if (isYaml(file)) {
    const others = files.filter((other) => !isYaml(other))
    const codes = await Promise.all(others.map((other) => codeOf(projectDir, other, [])))
    const texts = [await documentText(projectDir, file), ...codes.map(({ text }) => text)]
    return { text: texts.join('\n'), packages: [...new Set(codes.flatMap(({ packages }) => packages))].sort() }
  }
  const outdir = join(projectDir, '.sluice')
  const built = await esbuild({ ...optionsFor(projectDir, [file], outdir), splitting: false, sourcemap: false })
  const { inputs, outputs } = built.metafile
  const headings = new Set(Object.keys(inputs).map((input) => `// ${input}`))
  const lines = (built.outputFiles[0]?.text ?? '').split('\n')
  const imports = Object.values(outputs).flatMap(({ imports: all }) => all.filter(({ external }) => external))
  const code = lines.filter((line) => !headings.has(line.trim())).join('\n')
  // The bundler calls what a file exports as default after the file.
  const called = posix.basename(file, posix.extname(file)).replace(/[^A-Za-z0-9_$]+/g, '_')
  return {
    text: code.replaceAll(`${called}_default`, '_default'),
    packages: [...new Set(imports.flatMap(({ path }) => packageOf(path) ?? []))].sort(),
  }
}

/** The package that a bare specifier names; none for Node's own modules. */
function packageOf(specifier: string): string | undefined {
  if (isBuiltin(specifier)) return undefined
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
}

function optionsFor(projectDir: string, files: readonly string[], outdir: string) {
  return {
    absWorkingDir: projectDir,
    entryPoints: files.map((file) => ({ in: resolve(projectDir, file), out: file })),
    outdir,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    packages: 'external',
    sourcemap: 'linked',
    // The names of steps are the names of functions, which bundling may otherwise change.
    keepNames: true,
    legalComments: 'none',
    chunkNames: 'shared/chunk-[hash]',
    loader: { '.sql': 'text' },
    logLevel: 'silent',
    write: false,
    metafile: true,
  } satisfies BuildOptions
}

function settle(
  projectDir: string,
  files: readonly string[],
  outdir: string,
  built: Built,
  broken: Bundle['broken'],
): Bundle {
  const outputs = new Map(
    built.outputFiles.map((file) => [relative(outdir, file.path).split(sep).join('/'), file.text] as const),
  )
  const renamed = sharedNames(outputs)
  const rename = (text: string) => text.replace(/chunk-[A-Z0-9]{8}(?=\.js)/g, (name) => renamed.get(name) ?? name)
  const settled = [...outputs].map(([path, text]) => {
    const to = rename(path)
    return [
      to,
      path.endsWith('.map') ? settleMap(text, join(outdir, dirname(path)), projectDir) : rename(text),
    ] as const
  })
  return {
    files: new Map(settled.sort(([a], [b]) => (a < b ? -1 : 1))),
    entries: files.map((file) => ({ file, module: `${file}.js` })),
    inputs: Object.keys(built.metafile.inputs).sort(),
    faults: distinct(broken),
    broken,
  }
}

/** The bundler names a shared module by a hash that also covers paths; ours covers its code, whatever others are called. */
function sharedNames(outputs: ReadonlyMap<string, string>): Map<string, string> {
  const names = new Map<string, string>()
  const taken = new Set<string>()
  for (const [path, text] of outputs) {
    if (!path.startsWith('shared/') || !path.endsWith('.js')) continue
    const code = text.replace(/chunk-[A-Z0-9]{8}\.js/g, 'chunk.js')
    let name = createHash('sha256').update(code).digest('hex').slice(0, 12)
    while (taken.has(name)) name += '0'
    taken.add(name)
    names.set(posix.basename(path, '.js'), name)
  }
  return names
}

function settleMap(text: string, folder: string, projectDir: string): string {
  const map = JSON.parse(text) as { sources: string[] }
  return JSON.stringify({
    ...map,
    sources: map.sources.map((source) => relative(projectDir, resolve(folder, source)).split(sep).join('/')),
  })
}

function isBuildFailure(thrown: unknown): thrown is BuildFailure {
  return thrown instanceof Error && Array.isArray((thrown as { errors?: unknown }).errors)
}

function faultsOf(thrown: unknown, file: string): Fault[] {
  if (!isBuildFailure(thrown)) throw thrown
  return thrown.errors.map((message) => ({ where: whereOf(message, file), message: message.text }))
}

function whereOf({ location }: Message, file: string): string {
  return location === null ? `${file}:1:1` : `${location.file}:${location.line}:${columnOf(location)}`
}

/** The bundler counts columns in bytes from 0; editors count characters from 1. */
function columnOf(location: NonNullable<Message['location']>): number {
  return Buffer.from(location.lineText).subarray(0, location.column).toString().length + 1
}
