"""The local stand-in for KafkaSource and KafkaSink: brings records to functions, and takes events
from gateways, where there is no Knative.

`kn-chat dev`, `kn-chat pump` and tests use it. It imitates the measured dispatcher and receiver;
production has the real ones, so nothing else imports it. Source: design.md D2, D12, D22.
"""
