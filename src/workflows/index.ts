export { eraseUser } from './erase-user.ts';
