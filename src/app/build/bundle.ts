/**
 * Bundles definition files: each becomes one module, and what they share becomes modules of its own, so that a topic
 * that two files import is one object. Packages, `sluice` among them, stay outside. Nothing is written here.
 *
 * 1. What comes out depends on the project's files alone, not on where they or the output lie: source maps name the
 *    originals relative to the project, and shared modules are named by their code.
 * 2. A file that cannot be bundled is reported, with all that is wrong with it, and the others go on.
 */
import { createHash } from 'node:crypto'
import { dirname, join, posix, relative, resolve, sep } from 'node:path'
import { type BuildFailure, type BuildOptions, type BuildResult, build as esbuild, type Message } from 'esbuild'
import type { Fault } from '../../errors.ts'

export interface Bundle {
  /** Contents by path relative to the output folder: code (`.js`) and source maps (`.js.map`). */
  readonly files: ReadonlyMap<string, string>
  readonly entries: readonly { readonly file: string; readonly module: string }[]
  /** Every file that went in, relative to the project. */
  readonly inputs: readonly string[]
  readonly faults: readonly Fault[]
}

type Built = BuildResult<{ write: false; metafile: true }>

/** @param files relative to the project, with `/`. @param outdir any folder: it must make no difference. */
export async function bundle(projectDir: string, files: readonly string[], outdir: string): Promise<Bundle> {
  const run = (some: readonly string[]) => esbuild(optionsFor(projectDir, some, outdir))
  if (files.length === 0) return { files: new Map(), entries: [], inputs: [], faults: [] }
  try {
    return settle(projectDir, files, outdir, await run(files), [])
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
  const sound = files.filter((_, index) => alone[index]?.length === 0)
  const faults = [...new Map(alone.flat().map((fault) => [`${fault.where} ${fault.message}`, fault])).values()]
  if (sound.length === 0) return { files: new Map(), entries: [], inputs: [], faults }
  return settle(projectDir, sound, outdir, await run(sound), faults)
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

function settle(projectDir: string, files: readonly string[], outdir: string, built: Built, faults: Fault[]): Bundle {
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
    faults,
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
