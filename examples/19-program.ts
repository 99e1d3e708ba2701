// Programs are actions too: a shell line and a Python script, with arguments as JSON on standard input and the result in a
// file. Their output is the log, exit code 99 skips the task. 19-program.yaml says the same without any code.
import { program, workflow, z } from 'sluice'

export const countLines = program('count-lines', {
  command: ['sh', '-c', 'wc -l <"$1" | tr -d " " >"$SLUICE_RESULT_FILE"', 'sh'],
  args: ({ file }) => [file],
  input: z.object({ file: z.string() }),
  output: z.int(),
  timeout: '1m',
})
const summarize = program('summarize', {
  command: ['python3', 'scripts/summarize.py'],
  args: ['--upper'],
  input: z.object({ lines: z.int(), file: z.string() }),
  output: z.object({ text: z.string() }),
})

export const programs = workflow('programs', {
  params: z.object({ file: z.string().default('README.md') }),
  define({ params }) {
    const lines = countLines({ file: params.file })
    return summarize({ lines, file: params.file })
  },
})
