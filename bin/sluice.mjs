#!/usr/bin/env node
// Starts the command line. Plain JavaScript that Node 20 can read: on an older Node than 24 it starts the pinned one, which
// npm installs beside Sluice; on 24 it goes on in this process.
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import module, { createRequire } from 'node:module'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const oldest = 24
const home = dirname(dirname(realpathSync(fileURLToPath(import.meta.url))))
const local = localPackage()

if (local !== undefined) await import(pathToFileURL(join(local, 'bin/sluice.mjs')).href)
else if (majorOf(process.versions.node) >= oldest) await goOn()
else startPinned()

/** The project's own Sluice goes before one that is installed elsewhere: its definitions must meet the same modules. */
function localPackage() {
  try {
    const found = realpathSync(dirname(createRequire(join(process.cwd(), 'x.js')).resolve('sluice/package.json')))
    return found !== home && existsSync(join(found, 'bin/sluice.mjs')) ? found : undefined
  } catch {
    return undefined
  }
}

function mainFile() {
  const sources = join(home, 'src/cli/main.ts')
  return existsSync(sources) ? sources : join(home, 'dist/cli/main.js')
}

async function goOn() {
  module.enableCompileCache?.()
  const main = mainFile()
  const ownEntry = main.endsWith('.ts') ? 'src/sdk/index.ts' : 'dist/sdk/index.js'
  // Authors' code in this process (the commands of a project) gets the same modules as the command line.
  module.registerHooks({
    resolve: (specifier, context, next) =>
      specifier === 'sluice'
        ? { url: pathToFileURL(join(home, ownEntry)).href, shortCircuit: true }
        : next(specifier, context),
  })
  await import(pathToFileURL(main).href)
}

function startPinned() {
  const node = findNode()
  if (node === undefined) {
    const wanted = `Sluice needs Node ${oldest}; this is ${process.versions.node}, and the package`
    process.stderr.write(
      `sluice: ${wanted} node-${process.platform}-${process.arch} is not installed. Run npm install, or install Node ${oldest}\n`,
    )
    process.exit(2)
  }
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: 'inherit' })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('error', (thrown) => {
    process.stderr.write(`sluice: ${node} cannot be started: ${thrown.message}\n`)
    process.exit(2)
  })
  child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]))
}

function findNode() {
  const names = [`node-${process.platform}-${process.arch}`, `node-bin-${process.platform}-${process.arch}`]
  for (const from of [join(home, 'x.js'), join(process.cwd(), 'x.js')]) {
    for (const name of names) {
      try {
        const file = createRequire(from).resolve(`${name}/package.json`)
        const node = join(dirname(file), 'bin/node')
        if (existsSync(node) && majorOf(JSON.parse(readFileSync(file, 'utf8')).version) >= oldest) return node
      } catch {
        // Not installed: the next.
      }
    }
  }
  return undefined
}

function majorOf(version) {
  return Number(version.split('.')[0])
}
