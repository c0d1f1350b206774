"""The data line: records -> pairing -> messages -> encode -> plan -> collate -> datamodule."""
