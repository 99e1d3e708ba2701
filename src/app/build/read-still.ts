/** Reads files that others may be writing: what is taken was the same before and after. */
import { SluiceError } from '../../errors.ts'
import type { Bundle } from './bundle.ts'

export interface ReadParts {
  /** The definition files that are there. */
  find(): Promise<readonly string[]>
  bundle(files: readonly string[], again: boolean): Promise<Bundle>
  /** What tells the contents of files by path. */
  fingerprints(paths: readonly string[]): Promise<{ readonly [path: string]: string | null }>
}

export interface Read {
  readonly files: readonly string[]
  readonly bundled: Bundle
  /** Of before the second bundling: a later change differs from them. */
  readonly inputs: { readonly [path: string]: string | null }
}

const mostTries = 5

/**
 * Bundles twice; both must give the same. Files that changed meanwhile are read again, and when they still do after five
 * times, what was read last is taken: whoever follows the files hears of the next change, too.
 * @throws SluiceError BUILD_NOT_REPRODUCIBLE
 */
export async function readStill(parts: ReadParts): Promise<Read> {
  for (let tries = 1; ; tries += 1) {
    const files = await parts.find()
    const bundled = await parts.bundle(files, false)
    const paths = [...new Set([...bundled.inputs, ...files])]
    const inputs = await parts.fingerprints(paths)
    const second = await parts.bundle(files, true)
    const after = await parts.fingerprints(paths)
    const differs = differenceOf(bundled, second)
    const moved =
      (await parts.find()).join('\n') !== files.join('\n') || paths.some((path) => inputs[path] !== after[path])
    if (moved && tries < mostTries) continue
    if (differs === undefined || moved) return { files, bundled, inputs }
    throw new SluiceError('BUILD_NOT_REPRODUCIBLE', `Bundled twice, ${differs} was not the same`)
  }
}

function differenceOf(first: Bundle, second: Bundle): string | undefined {
  const [path] = [...first.files].find(([at, text]) => second.files.get(at) !== text) ?? []
  return path ?? (first.files.size === second.files.size ? undefined : 'the list of files')
}
