// `node scripts/screenshots.mjs UI-URL [DIRECTORY]`: pictures of what an operator sees in the Temporal UI, taken from a
// running `npm run demo -- --keep` with the system's Chromium (Debian: chromium, fonts-dejavu-core).

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [ui, directory = 'screenshots'] = process.argv.slice(2);
if (ui === undefined) throw new Error('name the address of the UI, for instance http://127.0.0.1:8233');
mkdirSync(directory, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env['CHROMIUM_PATH'] ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox',
    '--disable-dev-shm-usage',
    '--disable-gpu',
    '--disable-background-networking',
    '--disable-sync',
  ],
});
const page = await browser.newPage({ viewport: { width: 1500, height: 950 } });
// The list's columns live in the browser; an operator picks them once under "Configure Workflows Table".
/* global localStorage -- this function runs in the page */
await page.addInitScript(() => {
  const labels = [
    'Status',
    'LetheRequestId',
    'LetheStatus',
    'LetheConnections',
    'LetheRound',
    'LetheRemaining',
    'LetheNextCheckAt',
    'LetheBlocked',
    'Workflow ID',
  ];
  localStorage.setItem(
    'namespace-workflow-table-columns',
    JSON.stringify({ lethe: labels.map((label) => ({ label })) }),
  );
});

// The pages long-poll, so there is no moment at which the network is idle.
const show = async (path, name, act) => {
  await page.goto(new URL(path, ui).href);
  await page.waitForTimeout(3500);
  await act?.();
  await page.screenshot({ path: join(directory, `${name}.png`) });
  process.stdout.write(`${name}\n`);
};

await show('/namespaces/lethe/workflows', 'list');
const link = await page
  .locator('tr:has-text("Running") a[href*="/workflows/erase-"], a[href*="/workflows/erase-"]')
  .first()
  .getAttribute('href');
if (link === null) throw new Error('the list shows no erasure');
const base = link.replace(/\/(history|timeline).*$/, '');
await show(`${base}/timeline`, 'timeline');
await show(`${base}/history`, 'history');
await show(`${base}/user-metadata`, 'details');
await show(`${base}/search-attributes`, 'search-attributes');
if (process.env['SEND_UPDATE'] !== undefined) {
  await show(`${base}/timeline`, 'update-sent', async () => {
    await page.getByRole('button', { name: 'More Actions' }).click();
    await page.getByRole('menuitem', { name: 'Send an Update' }).click();
    await page.waitForTimeout(2000);
    const dialog = page.locator('dialog[open]');
    await dialog.getByTestId('update-select-button').click();
    await page.waitForTimeout(1000);
    await page.screenshot({ path: join(directory, 'update-list.png') });
    await dialog.getByText('checkNow', { exact: true }).first().click();
    await dialog.locator('.cm-content').click();
    await page.keyboard.insertText('{"requestedBy": "ines", "reason": "the person called"}');
    const submit = dialog.getByRole('button', { name: 'Submit' });
    // The first click after typing only reformats the JSON.
    await submit.click();
    await page.waitForTimeout(600);
    await page.screenshot({ path: join(directory, 'update-filled.png') });
    await submit.click();
    await page.waitForTimeout(3000);
  });
}
await browser.close();
