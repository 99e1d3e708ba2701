/** That a mutant is caught is enough: no smaller example is looked for. */
import fc from 'fast-check'

fc.configureGlobal({ endOnFailure: true, seed: 20_240_229 })
