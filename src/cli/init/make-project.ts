/** Makes the folder of a new project: all of it, or nothing. */
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { messageOf, SluiceError } from '../../errors.ts'

const longestName = 100

/** Names that npm gives to nobody, and those of which a project would depend on itself. */
const takenNames: ReadonlySet<string> = new Set(['node_modules', 'favicon.ico', 'sluice', 'typescript'])

/** @throws SluiceError USAGE with a name that would do */
export function checkProjectName(name: string): void {
  if (takenNames.has(name)) throw new SluiceError('USAGE', `${name} is taken; choose another name, such as my-${name}`)
  if (/^[a-z][a-z0-9-]*$/.test(name) && name.length <= longestName) return
  const fit = name
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^[^a-z]+|-+$/g, '')
    .slice(0, longestName)
  const allowed = `allowed are lower-case letters, digits and -, beginning with a letter, ${longestName} at most`
  throw new SluiceError(
    'USAGE',
    `${JSON.stringify(name.slice(0, 200))} is no name for a project: ${allowed}, such as ${fit || 'my-project'}`,
  )
}

/**
 * @param folder absolute; it may be there if it is empty.
 * @throws SluiceError USAGE (something is there already), CONFIGURATION (it cannot be written)
 */
export async function makeProject(
  folder: string,
  files: ReadonlyMap<string, string>,
  told: (done: number, path: string) => void = () => {},
): Promise<void> {
  const fresh = join(dirname(folder), `.${basename(folder)}-${randomUUID()}`)
  await refuseContents(folder)
  try {
    await mkdir(fresh)
    let done = 0
    for (const [path, text] of files) {
      await mkdir(dirname(join(fresh, path)), { recursive: true })
      await writeFile(join(fresh, path), text, { flag: 'wx' })
      done += 1
      told(done, path)
    }
    await rename(fresh, folder)
  } catch (cause) {
    await rm(fresh, { recursive: true, force: true }).catch(() => {})
    // Somebody else was faster.
    await refuseContents(folder)
    throw new SluiceError('CONFIGURATION', `${folder} cannot be written: ${messageOf(cause)}`, { cause })
  }
}

async function refuseContents(folder: string): Promise<void> {
  const names = await readdir(folder).catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code === 'ENOENT') return []
    if (thrown.code === 'ENOTDIR')
      throw new SluiceError('USAGE', `${folder} is there and is no folder; choose another name`)
    throw new SluiceError('CONFIGURATION', `${folder} cannot be read: ${messageOf(thrown)}`, { cause: thrown })
  })
  if (names.length === 0) return
  const some = names.sort().slice(0, 3).join(', ')
  const more = names.length > 3 ? ` and ${names.length - 3} more` : ''
  throw new SluiceError(
    'USAGE',
    `${folder} is not empty: it has ${some}${more}. Choose another name, or empty it first`,
  )
}
