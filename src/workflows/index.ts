export { eraseUser } from './erase-user.ts';
export { notify } from './notify.ts';
export { watchUser } from './watch-user.ts';
