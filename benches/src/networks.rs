//! The networks that are measured, and a request for each.

use anyhow::Result;
use bytes::Bytes;
use clap::ValueEnum;
use modelhost_core::{Datatype, Tensor};
use serde_json::json;

use crate::onnx::Layers;

/// A network by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NetworkName {
    /// Logistic regression: 15 parameters.
    Tiny,
    /// A perceptron of 993,994 parameters.
    Perceptron,
    /// A convolutional network of 22 million floating-point operations.
    Convolution,
    /// A perceptron of 10.5 million parameters, 42 MB, whose time is that of reading them: rows that run together
    /// share it.
    Wide,
}

/// A network to measure.
pub struct Network {
    /// Which one.
    pub name: NetworkName,
    /// For the tables.
    pub title: &'static str,
    /// The ONNX file: the input `x` and the output `y`, whose first dimension is free.
    pub onnx: Vec<u8>,
    /// The extents of one row of the input.
    row: Vec<u64>,
}

impl Network {
    /// Makes a network, which is the same in every run.
    pub fn make(name: NetworkName) -> Network {
        let (title, layers) = match name {
            NetworkName::Tiny => ("tiny (15 parameters)", Layers::of_row(&[4]).dense(3)),
            NetworkName::Perceptron => (
                "perceptron (994 k parameters)",
                Layers::of_row(&[64]).dense(1_024).relu().dense(896).relu().dense(10),
            ),
            NetworkName::Convolution => (
                "convolution (22 MFLOP)",
                Layers::of_row(&[3, 32, 32])
                    .convolution(16, 1)
                    .convolution(32, 2)
                    .convolution(64, 1)
                    .convolution(64, 2)
                    .convolution(64, 1)
                    .average()
                    .dense(10),
            ),
            NetworkName::Wide => (
                "wide (10.5 M parameters)",
                Layers::of_row(&[512]).dense(4_096).relu().dense(2_048).relu().dense(10),
            ),
        };
        let row = layers.input().iter().map(|extent| *extent as u64).collect();
        Network { name, title, onnx: layers.softmax(), row }
    }

    fn values(&self, rows: u64) -> impl Iterator<Item = f32> {
        let elements = rows * self.row.iter().product::<u64>();
        (0..elements).map(|index| (index % 64) as f32 / 64.0)
    }

    fn shape(&self, rows: u64) -> Vec<u64> {
        [&[rows], &self.row[..]].concat()
    }

    /// An input of so many rows.
    pub fn input(&self, rows: u64) -> Result<Tensor> {
        let data: Vec<u8> = self.values(rows).flat_map(f32::to_le_bytes).collect();
        Ok(Tensor::new(Datatype::Fp32, self.shape(rows), data.into())?)
    }

    /// A request of one row.
    pub fn body(&self) -> Result<Bytes> {
        let data: Vec<f32> = self.values(1).collect();
        let body =
            json!({"inputs": [{"name": "x", "shape": self.shape(1), "datatype": "FP32", "data": data}]});
        Ok(serde_json::to_vec(&body)?.into())
    }
}
