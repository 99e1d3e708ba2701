/** Makes what transforms that were added later make, of the raw bytes of pictures that are there. */
import { action, command, cron, workflow, z } from 'sluice'
import { afterPass, type BackFill, decideBackFill } from '../care/back-fill.ts'
import { resultOf, startRun } from '../care/follow-run.ts'
import type { PictureFacts } from '../pictures/picture.ts'
import { registered } from '../transforms/registry.ts'

// Apart in the bundle, since only this needs decoders.
const { addDerivation, checkAgain, derivationText, derivedShape, derivePage, nothingDerived } = await import(
  '../care/derive.ts'
)

type Derivation = z.infer<typeof derivedShape>

/** Page by page, each a durable step: a run that is killed goes on with the page that it was at. */
const derivePictures = action('derive-pictures', {
  input: z.object({ asked: z.boolean(), again: z.string() }),
  output: derivedShape,
  retry: { attempts: 5 },
  timeout: '30d',
  async run(context) {
    const { input, run, documents, step, progress, log } = context
    checkAgain(input.again)
    const states = documents<BackFill>('back-fills')
    const asked = input.asked || input.again !== ''
    const decision = decideBackFill(await states.get('images'), registered, run.id, Date.now(), asked)
    if (decision.what === 'settled') return { ...nothingDerived, settled: true }
    if (decision.what === 'under way') return { ...nothingDerived, underWay: decision.run }
    const before = await step('before', () => decision.before)
    const total = await step('count', () => documents<PictureFacts>('images').count())
    let sum = nothingDerived
    let cursor: string | null = null
    for (let page = 1; ; page += 1) {
      await states.put('images', { ...before, at: Date.now() })
      const done = await step(`page ${page}`, () => derivePage(context, cursor, input.again))
      for (const failure of done.failures) log.warn(failure)
      sum = addDerivation(sum, done)
      progress(sum.pictures, Math.max(total, sum.pictures))
      if (done.nextCursor === null) break
      cursor = done.nextCursor
    }
    await states.put('images', { ...afterPass(before, sum.made), at: Date.now() })
    return sum
  },
})

export const derive = workflow('derive', {
  params: z.object({
    asked: z.boolean().default(false).meta({ description: 'Look through all pictures, also when all have everything' }),
    again: z.string().max(200).default('').meta({ description: 'A transform to apply again: NAME@VERSION' }),
  }),
  plans: [cron('*/10 * * * *')],
  define({ params }) {
    derivePictures({ asked: params.asked, again: params.again })
  },
})

const options = z.object({
  again: z.string().default('').meta({ description: 'a transform to apply again to every picture: NAME@VERSION' }),
})

export const deriveCommand = command<z.infer<typeof options>>('derive', {
  summary: 'make what pictures lack of the registered transforms, from their raw bytes',
  options,
  async run(context) {
    let runId = await startRun(context, 'derive', { asked: true, again: context.options.again })
    let result = await resultOf<Derivation>(context, runId)
    while (result.underWay !== null) {
      runId = result.underWay
      context.note(`The run ${runId} is at it`)
      result = await resultOf<Derivation>(context, runId)
    }
    context.print(derivationText(result), { runId, ...result })
    return result.failed === 0 ? 0 : 1
  },
})
