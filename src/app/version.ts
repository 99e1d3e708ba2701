import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageFolder } from './own-process.ts'

/** Of the platform, as its package says. */
export const version: string = (
  JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8')) as { version: string }
).version
