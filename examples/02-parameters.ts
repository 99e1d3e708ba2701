// Parameters, results, and a chain: calling an action gives a reference to its result, and who uses a reference waits for it.
// Types are checked while you write; values when a run starts, and at each result. A default fills in what is left out.
import { action, text, workflow, z } from 'sluice'

const countWords = action('count-words', {
  input: z.object({ text: z.string(), longest: z.int().min(1) }),
  output: z.object({ words: z.int(), kept: z.array(z.string()) }),
  run({ input }) {
    const words = input.text.split(/\s+/).filter((word) => word !== '')
    return { words: words.length, kept: words.filter((word) => word.length <= input.longest) }
  },
})

const shout = action('shout', {
  input: z.object({ words: z.array(z.string()), ending: z.string() }),
  output: z.string(),
  run: ({ input }) => input.words.join(' ').toUpperCase() + input.ending,
})

export const parameters = workflow('parameters', {
  params: z.object({ text: z.string(), longest: z.int().min(1).default(5), mark: z.enum(['!', '?']).default('!') }),
  define({ params }) {
    const counted = countWords({ text: params.text, longest: params.longest })
    const shouted = shout({ words: counted.kept, ending: text` ${params.mark}${params.mark}` })
    return { words: counted.words, shouted }
  },
})
