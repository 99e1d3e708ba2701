import { defineConfig } from 'sluice'

export default defineConfig({ migrations: { doors: 'migrations' } })
