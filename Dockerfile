# The image of the Lethe worker and its commands. Built and run by docker-compose.yml.

FROM node:24.21.0-bookworm-slim AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
# No install scripts: the only one that matters fetches a Node, and this image is one.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN node_modules/.bin/tsc -p tsconfig.build.json \
  && rm -rf node_modules \
  && npm ci --ignore-scripts --omit=dev \
  # The SDK's native part comes for five platforms, 150 MB of which one is used.
  && find node_modules/@temporalio/core-bridge/releases -mindepth 1 -maxdepth 1 \
    -not -name "$(uname -m)-unknown-linux-gnu" -exec rm -r {} +

FROM node:24.21.0-bookworm-slim
ENV NODE_ENV=production
WORKDIR /opt/lethe
COPY --from=build /build/package.json ./
COPY --from=build /build/node_modules node_modules
COPY --from=build /build/dist dist
COPY LICENSE ./
# A new volume takes over owner and mode of the directory it is mounted on.
RUN chmod +x dist/cli/main.js \
  && ln -s /opt/lethe/dist/cli/main.js /usr/local/bin/lethe \
  && install -d -o node -g node -m 0700 /var/lib/lethe
USER node
ENTRYPOINT ["lethe"]
CMD ["worker"]
