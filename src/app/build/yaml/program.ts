/** `action: program`: what its `with` says, made an action. Nothing that is known at run time gets into its command. */
import type { Action } from '../../../sdk/action.ts'
import { program, wrongVariable } from '../../../sdk/program.ts'
import { z } from '../../../sdk/schema.ts'
import { expressionsIn } from './expression.ts'
import { below } from './pointer.ts'
import { type Fields, type Reader, unknownName } from './reader.ts'
import type { TaskForm } from './tasks.ts'

const word = z.union([z.string(), z.number(), z.boolean()])
const input = z.object({ args: z.array(word), env: z.record(z.string(), word), input: z.unknown() })
const keys = ['command', 'args', 'env', 'secrets', 'input', 'cwd', 'exitCodes']

export interface ProgramTask {
  readonly action: Action
  /** What is passed to it, with expressions inside. */
  readonly args: unknown
}

/** Undefined when there are faults. */
export function programOf(task: TaskForm, reader: Reader): ProgramTask | undefined {
  const before = reader.count
  const at = below(task.pointer, 'with')
  const what = `program ${task.id}`
  const given = reader.fields(task.args, at, what, keys)
  if (!given || reader.count > before) return undefined
  if (given.command === undefined)
    return reader.fault(at, `${what} has no command; write command: [python3, scripts/x.py]`)
  const fixed = { command: given.command, cwd: given.cwd, secrets: given.secrets, exitCodes: given.exitCodes }
  for (const { pointer } of expressionsIn(fixed)) {
    reader.fault(
      pointer,
      'a reference cannot stand in command, cwd, secrets or exitCodes; pass it in args, env or input, where no shell and no path is made of it',
    )
  }
  if (reader.count > before) return undefined
  const command = reader.list(given.command, below(at, 'command'), `command of ${what}`) ?? []
  for (const [index, one] of command.entries())
    if (typeof one !== 'object') reader.text(one, below(at, 'command', index), `command of ${what}`)
  if (given.cwd !== undefined && typeof given.cwd !== 'object')
    reader.text(given.cwd, below(at, 'cwd'), `cwd of ${what}`)
  checkWords(given, at, what, reader)
  if (reader.count > before) return undefined
  const action = reader.attempt(at, () =>
    program<unknown, z.input<typeof input>, z.output<typeof input>>(task.name, {
      command: command as string[],
      ...(given.cwd === undefined ? {} : { cwd: given.cwd as string }),
      ...(given.secrets === undefined ? {} : { secrets: given.secrets as Record<string, string> }),
      ...(given.exitCodes === undefined ? {} : { exitCodes: given.exitCodes as object }),
      input,
      args: (passed) => passed.args,
      env: (passed) => passed.env,
      stdin: (passed) => passed.input,
    }),
  )
  if (!action) return undefined
  return { action: action as Action, args: { args: given.args ?? [], env: given.env ?? {}, input: given.input ?? {} } }
}

function checkWords(given: Fields, at: string, what: string, reader: Reader): void {
  if (given.args !== undefined) reader.list(given.args, below(at, 'args'), `args of ${what}`)
  for (const key of ['env', 'secrets']) {
    const variables =
      given[key] === undefined ? {} : (reader.map(given[key], below(at, key), `${key} of ${what}`) ?? {})
    for (const name of Object.keys(variables)) {
      const wrong = wrongVariable(name)
      if (wrong !== undefined) reader.fault(below(at, key, name), wrong, 'key')
      if (key === 'secrets' && typeof variables[name] !== 'object')
        reader.text(variables[name], below(at, key, name), `the secret for ${name}`)
    }
  }
  if (given.exitCodes === undefined) return
  const codes = reader.fields(given.exitCodes, below(at, 'exitCodes'), `exitCodes of ${what}`, ['skip', 'final']) ?? {}
  for (const [kind, list] of Object.entries(codes)) {
    for (const [index, code] of (reader.list(list, below(at, 'exitCodes', kind), `exitCodes.${kind}`) ?? []).entries())
      reader.whole(code, below(at, 'exitCodes', kind, index), 'an exit code', 1, 125)
  }
}

/** Which actions there are, for a name that is none of them. */
export function unknownAction(name: string, known: Iterable<string>): string {
  return unknownName('there is no action', name, ['program', ...known].sort())
}
