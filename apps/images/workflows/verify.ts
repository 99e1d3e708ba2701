/** Verification of everything that is stored of pictures: `sluice verify`, or a run of the workflow `verify`. */
import { action, command, workflow, z } from 'sluice'
import { addToReport, emptyReport, outcomeText, type Report, reportShape, reportText } from '../care/damage.ts'
import { resultOf, startRun } from '../care/follow-run.ts'
import { lookAtPage } from '../care/look.ts'
import type { PictureFacts } from '../pictures/picture.ts'

// Apart in the bundle, since only this needs decoders.
const { mend } = await import('../care/mend.ts')
const { refetchWith } = await import('../care/refetch.ts')

const params = z.object({
  refetch: z.boolean().default(false).meta({ description: 'Ask the sources for raw bytes that are damaged' }),
})

/**
 * Page by page, and each page in two durable steps: what is damaged, and what became of it. So a run that is killed goes on
 * where it was, and forgets nothing that it found.
 */
const verifyPictures = action('verify-pictures', {
  input: z.object({ refetch: z.boolean() }),
  output: reportShape,
  retry: { attempts: 5 },
  timeout: '30d',
  async run(context) {
    const { input, documents, step, progress, log } = context
    const total = await step('count', () => documents<PictureFacts>('images').count())
    const refetch = input.refetch ? refetchWith(context) : undefined
    let report = emptyReport
    let cursor: string | null = null
    for (let page = 1; ; page += 1) {
      const looked = await step(`look ${page}`, () => lookAtPage(context, cursor))
      const ids = [...new Set(looked.damages.map(({ id }) => id))]
      const outcomes = await step(`mend ${page}`, async () => {
        const mended = []
        for (const id of ids) {
          const damages = looked.damages.filter((damage) => damage.id === id)
          mended.push(...(await mend(context, damages, refetch)))
        }
        for (const outcome of mended) log.warn(outcomeText(outcome), { picture: outcome.id, outcome: outcome.outcome })
        return mended
      })
      report = addToReport(report, looked.pictures, outcomes)
      progress(report.pictures, Math.max(total, report.pictures))
      if (looked.nextCursor === null) return report
      cursor = looked.nextCursor
    }
  },
})

export const verify = workflow('verify', {
  params,
  define({ params }) {
    verifyPictures({ refetch: params.refetch })
  },
})

const options = z.object({
  refetch: z.boolean().default(false).meta({ description: 'ask the sources for raw bytes that are damaged' }),
})

export const verifyCommand = command<z.infer<typeof options>>('verify', {
  summary: 'hash everything that is stored of pictures again, and mend what can be mended',
  options,
  async run(context) {
    const runId = await startRun(context, 'verify', context.options)
    const report = await resultOf<Report>(context, runId)
    context.print(reportText(report, runId), { runId, ...report })
    return report.remaining === 0 ? 0 : 1
  },
})
