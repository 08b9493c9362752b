# The load tester: docker build -f deploy/docker/loadtester.Dockerfile -t serin-loadtester:0.1.0 .
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc make perl libc6-dev pkg-config && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo ./.cargo
COPY src ./src
COPY crates ./crates
COPY examples ./examples
COPY deploy/crds ./deploy/crds
RUN cargo build --release --locked --no-default-features

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends bash ca-certificates curl jq && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 65532 --create-home --home-dir /home/serin serin
COPY --from=build /src/target/release/serin /usr/local/bin/serin
# For load test lines that need a shell (`hey ... && hey ...`).
RUN ln -s serin /usr/local/bin/hey
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/serin", "loadtest"]
# Who may call has to be said: --token-file FILE, or --no-token as with Flagger's.
CMD ["--port", "8080", "--token-file", "/etc/serin/loadtester/token"]
