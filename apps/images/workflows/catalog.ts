import { realpath } from 'node:fs/promises'
import { resolve, sep } from 'node:path'
import { action, fileArrival, SluiceError, workflow, z } from 'sluice'
import { keepRested } from '../catalog/arrive.ts'
import { startsWith } from '../catalog/catalog-lines.ts'
import { catalogNamePattern, catalogNameRule, nameOfFile } from '../catalog/catalog-name.ts'
import { type CatalogState, planReading, stateAfter } from '../catalog/catalog-state.ts'
import { Reading } from '../catalog/reading.ts'
import { recordId } from '../catalog/record-id.ts'
import { imageUrls } from './topics.ts'

const arrived = z.object({ name: z.string(), sha256: z.string(), bytes: z.number(), rested: z.boolean() })

/** Keeps the file, immutable, under its hash: from the watched folder, or as it was uploaded. */
const keepCatalog = action('keep-catalog', {
  input: z.object({ file: z.string(), name: z.string(), sha256: z.string() }),
  output: arrived,
  retry: { attempts: 3 },
  async run({ input, objects, signal }) {
    const { file, sha256 } = input
    if ((file === '') === (sha256 === '')) throw new SluiceError('INVALID_INPUT', 'Give either file or sha256')
    if (file !== '') await checkPlace(file)
    const name = input.name === '' ? nameOfFile(file) : input.name.normalize()
    if (!catalogNamePattern.test(name)) {
      throw new SluiceError(
        'INVALID_INPUT',
        `${JSON.stringify(name)} is not a name for a catalog; allowed are ${catalogNameRule}`,
      )
    }
    // An upload was put before this run was there; put by the run, it is kept as long as the run is.
    if (file === '') return { name, ...(await objects.put(await objects.open(sha256))), rested: true }
    return { name, ...(await keepRested(resolve(file), () => objects.putFile(file), signal)) }
  },
})

/** A link may lead to another file of the folder, as those of mounted volumes do, and not out of it. */
async function checkPlace(file: string): Promise<void> {
  const outside = new SluiceError('INVALID_INPUT', `The file ${file} must lie in catalogs/; upload others`)
  if (!file.startsWith('catalogs/') || file.split('/').includes('..')) throw outside
  // What is not there is named when it is read.
  const [folder, place] = await Promise.all([realpath('catalogs'), realpath(file)]).catch(() => [])
  if (folder !== undefined && place !== undefined && !place.startsWith(folder + sep)) throw outside
}

const published = z.object({
  catalog: z.string(),
  lines: z.number(),
  published: z.number(),
  known: z.number(),
  blank: z.number(),
  malformed: z.number(),
})

/**
 * Publishes the lines that were not received before. Of the result, `lines` counts all lines of the file, `published` the
 * records that are new and `known` those that are not; `blank` lines are no records, `malformed` ones end rejected.
 */
const publishLines = action('publish-lines', {
  input: arrived.extend({ refresh: z.boolean() }),
  output: published,
  retry: { attempts: 5 },
  timeout: '1h',
  async run({ input, objects, documents, publish, progress, step, log }) {
    const { name, sha256, bytes, rested, refresh } = input
    const catalogs = documents<CatalogState>('catalogs')
    const plan = await step('plan', async () =>
      planReading(await catalogs.get(name), input, async (prefix) => startsWith(await objects.open(sha256), prefix)),
    )
    if (plan.unchanged) {
      const { lines, blank, malformed } = (await catalogs.get(name)) as CatalogState
      return { catalog: name, lines, published: 0, known: lines - blank, blank, malformed }
    }
    const reading = new Reading({ name, plan, rested, refresh, bytes, progress })
    const sent = await publish(imageUrls, reading.records(await objects.open(sha256)), { id: recordId })
    const before = await catalogs.get(name)
    const state = stateAfter(before, { ...reading.found(), name, version: sha256, bytes }, new Date().toISOString())
    // A run that was overtaken by one of a later generation leaves what that one has written.
    if (before === undefined || before.generation <= plan.generation) {
      await catalogs.put(name, state, { objects: [sha256] })
    }
    log.info('lines published', { catalog: name, generation: plan.generation, ...sent })
    const { lines, blank, malformed } = state
    return { catalog: name, lines, published: sent.published, known: lines - blank - sent.published, blank, malformed }
  },
})

export const catalog = workflow('catalog', {
  params: z.object({
    /** A file of the project, relative to it. */
    file: z.string().default('').meta({ description: 'A file of the project, such as catalogs/birds.txt' }),
    name: z.string().max(100).default('').meta({ description: 'Of the catalog; default the name of the file' }),
    sha256: z.string().default('').meta({ description: 'Instead of file: an object that was uploaded' }),
    refresh: z.boolean().default(false).meta({ description: 'Ask again for URLs that are known' }),
  }),
  plans: [fileArrival('catalogs/*.txt')],
  define({ params }) {
    const kept = keepCatalog({ file: params.file, name: params.name, sha256: params.sha256 })
    publishLines({
      name: kept.name,
      sha256: kept.sha256,
      bytes: kept.bytes,
      rested: kept.rested,
      refresh: params.refresh,
    })
  },
})
