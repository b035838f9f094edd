"""A record processor on amazon_kclpy, as a user writes one: it notes each record, and checkpoints at each.

The file to note them in is the argument. Each line: "SEQUENCE SUB_SEQUENCE DATA", or "checkpoint SEQUENCE SUB_SEQUENCE".
"""

import sys

from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor


class RecordProcessor(processor.RecordProcessorBase):
    def __init__(self, notes):
        self.notes = notes

    def note(self, *words):
        print(*words, file=self.notes, flush=True)

    def initialize(self, initialize_input):
        self.note("shard", initialize_input.shard_id)

    def process_records(self, process_records_input):
        for record in process_records_input.records:
            at = (record.sequence_number, record.sub_sequence_number)
            self.note(*at, record.binary_data.decode())
            process_records_input.checkpointer.checkpoint(*at)
            self.note("checkpoint", *at)

    def lease_lost(self, lease_lost_input):
        self.note("lease lost")

    def shard_ended(self, shard_ended_input):
        shard_ended_input.checkpointer.checkpoint()
        self.note("shard ended")

    def shutdown_requested(self, shutdown_requested_input):
        shutdown_requested_input.checkpointer.checkpoint()
        self.note("shutdown requested")


if __name__ == "__main__":
    with open(sys.argv[1], "a") as notes:
        kcl.KCLProcess(RecordProcessor(notes)).run()
