import { z } from 'zod'

export { z }

/** Any zod schema; `In` is what may be passed, `Out` what comes out of parsing. */
export type Schema<Out = unknown, In = unknown> = z.ZodType<Out, In>
