/** The project's own settings, `sluice.config.ts`. Secrets and addresses of a deployment belong in the environment. */
export interface ProjectConfig {
  /** Globs of definition files, relative to the project. Default `['workflows/*.ts', 'workflows/*.yaml', 'workflows/*.yml']`. */
  readonly definitions?: readonly string[]
  /** Settings of named connections; `SLUICE_CONNECTION_<NAME>` (JSON) overrides one. */
  readonly connections?: Readonly<Record<string, { readonly kind: string; readonly [setting: string]: unknown }>>
  /**
   * Folders of apps' migrations by the name of the app: `{ stats: 'apps/stats/migrations' }`. Their files are SQL, named `0001-some-words.sql` and
   * counted from 0001; each runs once, in a transaction of its own, in the order in which the apps stand here, after the platform's. What an app makes lies
   * in schemas that its own migrations make. A file that was applied is never changed: add another.
   */
  readonly migrations?: Readonly<Record<string, string>>
}

export function defineConfig(config: ProjectConfig): ProjectConfig {
  return config
}
